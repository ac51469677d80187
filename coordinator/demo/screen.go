package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/cipherfleet/cipherfleet/pkg/app"
)

// style is how a whole line looks, where colours are wanted: an ANSI sequence.
type style string

// The styles.
const (
	stylePlain style = ""
	styleBold  style = "\x1b[1m"
	styleDim   style = "\x1b[2m"
	styleGood  style = "\x1b[32m"
	styleBad   style = "\x1b[31m"
	styleEnd         = "\x1b[0m"
)

type styled struct {
	text  string
	style style
}

// screen writes lines that stay and, on a terminal, a live region below them.
type screen struct {
	mu      sync.Mutex
	out     io.Writer
	begun   time.Time
	columns func() int // of the terminal; nil: it is none
	colours bool
	region  []styled  // what the live region shows now
	drawn   time.Time // when it was drawn, or a plain line of progress was printed
}

func newScreen(out io.Writer, config app.Demo) *screen {
	s := &screen{out: out, begun: time.Now()}
	file, isFile := out.(*os.File)
	if !isFile || !term.IsTerminal(int(file.Fd())) || config.Terminal == "dumb" || config.Terminal == "" {
		return s
	}
	s.colours = config.NoColor == ""
	s.columns = func() int {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
			return width
		}
		return 80
	}
	return s
}

// Between two pictures: on a terminal, and where each is a line that stays.
const (
	drawEvery  = 100 * time.Millisecond
	printEvery = time.Second
)

// progress shows a picture, if it is time for one.
func (s *screen) progress(picture func() view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	every := printEvery
	if s.columns != nil {
		every = drawEvery
	}
	if time.Since(s.drawn) < every {
		return
	}
	s.drawn = time.Now()
	v := picture()
	switch {
	case s.columns != nil:
		s.redraw("", v.lines)
	case v.plain != "":
		s.write(s.stamp() + v.plain + "\n")
	}
}

// redraw replaces the live region, with lines that stay above it, in one write.
func (s *screen) redraw(above string, region []styled) {
	var b strings.Builder
	if len(s.region) > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r\x1b[J", len(s.region))
	}
	b.WriteString(above)
	for _, line := range region {
		line.text = s.fit("  " + line.text)
		b.WriteString(s.paint(line) + "\n")
	}
	s.region = region
	s.write(b.String())
}

// fit cuts a line that the terminal would wrap, which would spoil counting lines.
func (s *screen) fit(text string) string {
	most := s.columns() - 1
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:max(0, most)])
}

// barWidth leaves room for the figures behind a bar.
func (s *screen) barWidth() int {
	if s.columns == nil {
		return 0
	}
	return min(max(s.columns()-64, 10), 40)
}

func (s *screen) paint(l styled) string {
	if !s.colours || l.style == stylePlain || l.text == "" {
		return l.text
	}
	return string(l.style) + l.text + styleEnd
}

// A terminal that is gone is noticed by its signal.
func (s *screen) write(text string) { _, _ = io.WriteString(s.out, text) }

func (s *screen) stamp() string { return fmt.Sprintf("%6.1f s  ", time.Since(s.begun).Seconds()) }

// stay prints a line above the live region.
func (s *screen) stay(l styled) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.columns == nil {
		s.write(s.paint(l) + "\n")
		return
	}
	s.redraw(s.paint(l)+"\n", s.region)
}

// clear takes the live region away.
func (s *screen) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.columns != nil {
		s.redraw("", nil)
	}
}

func (s *screen) line(text string)  { s.stay(styled{text: text}) }
func (s *screen) title(text string) { s.stay(styled{text: text + "\n", style: styleBold}) }
func (s *screen) event(text string) { s.stay(styled{text: s.stamp() + text}) }
func (s *screen) good(text string)  { s.stay(styled{text: s.stamp() + text, style: styleGood}) }
func (s *screen) alarm(text string) { s.stay(styled{text: s.stamp() + text, style: styleBad}) }

// step shows what is being done, and then what has been done.
func (s *screen) step(doing string, do func() (done string, err error)) error {
	if s.columns != nil {
		s.mu.Lock()
		s.redraw("", []styled{{}, {text: doing + " …", style: styleDim}})
		s.mu.Unlock()
	}
	done, err := do()
	s.clear()
	if err != nil {
		return err
	}
	s.event(done)
	return nil
}

// table prints rows in columns, the first row as their heads.
func (s *screen) table(rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range rows {
		var b strings.Builder
		b.WriteString("    ")
		for i, cell := range row {
			b.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
		line := styled{text: strings.TrimRight(b.String(), " ")}
		if n == 0 {
			line.style = styleDim
		}
		s.stay(line)
	}
}
