package demo

import (
	"context"
	"fmt"

	"github.com/cipherfleet/cipherfleet/messages"
)

// keep says how to reach everything and leaves it up until ctx ends. The private server's password is shown: it is as
// short-lived as the server. It returns ctx's error.
func (p *play) keep(ctx context.Context) error {
	s := &p.stage
	p.screen.line("Everything stays up until Ctrl-C. In another terminal:")
	p.screen.line("")
	for _, line := range []string{
		fmt.Sprintf("export DATABASE_URL='%s'", s.url),
		fmt.Sprintf("export NATS_URL=%s CIPHERFLEET_NATS_TOKEN_FILE=%s", s.nats.URL(), s.nats.TokenFile()),
		fmt.Sprintf("export CIPHERFLEET_KEK=file:%s", s.keyFile()),
		"",
		`psql "$DATABASE_URL" -c 'SELECT id, email, email_encrypted FROM users LIMIT 5'`,
		`psql "$DATABASE_URL" -c 'SELECT * FROM cipherfleet.events ORDER BY id DESC LIMIT 10'`,
		fmt.Sprintf(`nats --user "$(cat "$CIPHERFLEET_NATS_TOKEN_FILE")" req --raw %s '{"v":1}'`, messages.SubjectList),
		p.Program + " status",
		p.Program + " verify --table users",
	} {
		p.screen.line("  " + line)
	}
	p.screen.line("")
	p.screen.line("The logs of the fleet are in " + s.dir + ".")
	<-ctx.Done()
	return ctx.Err()
}
