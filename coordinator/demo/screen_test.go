package demo

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// picture is what a terminal shows after it was sent something: it knows the few sequences that the screen uses.
func picture(t *testing.T, sent string, width int) []string {
	t.Helper()
	lines, row, column := []string{""}, 0, 0
	for sent != "" {
		if rest, found := strings.CutPrefix(sent, "\x1b["); found {
			end := strings.IndexAny(rest, "AJm")
			switch n, _ := strconv.Atoi(rest[:end]); rest[end] {
			case 'A':
				row -= n
			case 'J':
				lines = append(lines[:row:row], string([]rune(lines[row])[:column]))
			}
			sent = rest[end+1:]
			continue
		}
		r, size := utf8.DecodeRuneInString(sent)
		sent = sent[size:]
		switch {
		case r == '\r':
			column = 0
		case r == '\n' || column == width:
			row, column = row+1, 0
			if row == len(lines) {
				lines = append(lines, "")
			}
		}
		if r != '\r' && r != '\n' {
			lines[row], column = lines[row]+string(r), column+1
		}
	}
	return lines
}

func terminal(out *bytes.Buffer, width int) *screen {
	return &screen{out: out, begun: time.Now(), colours: true, columns: func() int { return width }}
}

func TestOnATerminalTheRegionIsReplacedAndLinesStayAboveIt(t *testing.T) {
	t.Parallel()
	const width = 40
	var out bytes.Buffer
	s := terminal(&out, width)
	show := func(lines ...string) {
		s.drawn = time.Time{}
		s.progress(func() (v view) {
			for _, line := range lines {
				v.lines = append(v.lines, styled{text: line, style: styleGood})
			}
			return v
		})
	}
	s.line("first")
	show("bar 1", "worker 1", strings.Repeat("wide ", 20))
	s.alarm("second")
	show("bar 2")
	s.line("third")
	shown := picture(t, out.String(), width)
	want := []string{"first", "", "third", "  bar 2", ""}
	if len(shown) != len(want) || shown[0] != want[0] || !strings.HasSuffix(shown[1], "s  second") || shown[2] != want[2] || shown[3] != want[3] {
		t.Errorf("the terminal shows %q", shown)
	}
	s.clear()
	if shown := picture(t, out.String(), width); strings.Contains(strings.Join(shown, ""), "bar") {
		t.Errorf("after clearing it shows %q", shown)
	}
	if !strings.Contains(out.String(), string(styleBad)) {
		t.Error("an alarm has no colour")
	}
}

func TestATerminalIsNotDrawnTooOften(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := terminal(&out, 80)
	pictures := 0
	for range 100 {
		s.progress(func() view { pictures++; return view{} })
	}
	if pictures != 1 {
		t.Errorf("%d pictures in a moment", pictures)
	}
}

func TestWhereThereIsNoTerminalEveryLineStays(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := newScreen(&out, configured("xterm", ""))
	s.title("title")
	if err := s.step("starting", func() (string, error) { return "started", nil }); err != nil {
		t.Fatal(err)
	}
	s.progress(func() view { return view{lines: []styled{{text: "live"}}, plain: "50 %"} })
	s.alarm("alarm")
	s.table([][]string{{"id", "name"}, {"1", "Zoë"}})
	s.clear()
	text := out.String()
	if strings.ContainsAny(text, "\x1b\r") || strings.Contains(text, "live") {
		t.Errorf("it has what only a terminal understands: %q", text)
	}
	for _, said := range []string{"title", "s  started", "s  50 %", "s  alarm", "id  name", "1   Zoë"} {
		if !strings.Contains(text, said) {
			t.Errorf("it lacks %q: %q", said, text)
		}
	}
}

func TestGrouped(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1 000", 200000: "200 000", 1234567: "1 234 567", -1234: "-1 234", -123: "-123"} {
		if got := grouped(n); got != want {
			t.Errorf("%d is %q", n, got)
		}
	}
}

func TestABarIsAsWideAsItIsToldAndSaysWhatIsLeft(t *testing.T) {
	t.Parallel()
	m := newMeter(1000)
	m.samples = []reading{{time.Now().Add(-100 * time.Second), 0}}
	live, plain := m.bar(250, 20)
	if !strings.HasPrefix(live, "[█████░░░░░░░░░░░░░░░]") || !strings.HasPrefix(plain, "25 %   250 of 1 000 rows") || !strings.Contains(plain, "ETA 30") {
		t.Errorf("%q and %q", live, plain)
	}
	if live, _ := m.bar(1200, 20); !strings.HasPrefix(live, "["+strings.Repeat("█", 20)+"] 100 %") || strings.Contains(live, "ETA") {
		t.Errorf("beyond its end: %q", live)
	}
	if live, _ := newMeter(0).bar(0, 10); !strings.Contains(live, "100 %") {
		t.Errorf("of nothing: %q", live)
	}
}

func TestATerminalIsRecognised(t *testing.T) {
	t.Parallel()
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pty.Close() })
	if s := newScreen(pty, configured("xterm", "")); s.columns == nil || s.columns() <= 0 || !s.colours {
		t.Errorf("a terminal is %+v", s)
	}
	if s := newScreen(pty, configured("xterm", "1")); s.columns == nil || s.colours {
		t.Errorf("a terminal without colours is %+v", s)
	}
	for _, kind := range []string{"dumb", ""} {
		if s := newScreen(pty, configured(kind, "")); s.columns != nil {
			t.Errorf("a terminal of kind %q is moved about in", kind)
		}
	}
}
