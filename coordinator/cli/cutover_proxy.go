package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/app"
)

// tellProxy has EQL's proxy see that a column has another name now. The cutover is done, or taken back: what goes wrong
// here is told, and fails nothing.
func tellProxy(ctx context.Context, errout io.Writer, config app.Coordinator, l *ladder.Ladder, column standing.Name) {
	if config.ProxyURL == "" {
		return
	}
	s, err := l.Find(ctx, column)
	if err == nil && !s.IsEQL() {
		return
	}
	if err == nil {
		err = ladder.ReloadProxy(ctx, config.ProxyURL.Raw())
	}
	if err != nil {
		fmt.Fprintf(errout, "warning: the proxy of CIPHERFLEET_PROXY_URL was not told to reload: %v; it does so by itself after a while, or after SELECT eql_v2.reload_config() through it\n", err)
		return
	}
	fmt.Fprintln(errout, "the proxy was told to reload")
}
