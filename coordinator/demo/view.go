package demo

import (
	"fmt"
	"strings"
	"time"
)

// view is one picture of the work: lines for a terminal's live region, and one line for where there is none.
type view struct {
	lines []styled
	plain string
}

// meter knows how far a piece of work is, and how fast it was lately.
type meter struct {
	total   int64
	samples []reading
}

type reading struct {
	at   time.Time
	rows int64
}

const meterSpan = 2 * time.Second

func newMeter(total int64) *meter { return &meter{total: total} }

// read notes how many rows are done, and returns rows per second over the last moments.
func (m *meter) read(rows int64) float64 {
	now := time.Now()
	m.samples = append(m.samples, reading{now, rows})
	for len(m.samples) > 2 && now.Sub(m.samples[0].at) > meterSpan {
		m.samples = m.samples[1:]
	}
	first := m.samples[0]
	if took := now.Sub(first.at).Seconds(); took > 0 {
		return float64(rows-first.rows) / took
	}
	return 0
}

// bar is the first line: bar, percent, rows, rate and what is left.
func (m *meter) bar(rows int64, width int) (live, plain string) {
	rate := m.read(rows)
	share := 1.0
	if m.total > 0 {
		share = min(1, float64(rows)/float64(m.total))
	}
	full := int(share * float64(width))
	text := fmt.Sprintf("%3.0f %%   %s of %s rows", 100*share, grouped(rows), grouped(m.total))
	if left := m.total - rows; left > 0 && rate > 1 {
		text += fmt.Sprintf("   %s rows/s   ETA %.1f s", grouped(int64(rate)), float64(left)/rate)
	}
	return "[" + strings.Repeat("█", full) + strings.Repeat("░", width-full) + "] " + text, strings.TrimSpace(text)
}

// view is a picture of a job. Missed is negative where there is no traffic.
func (p *play) view(m *meter, now standing, missed int64) view {
	live, plain := m.bar(now.rows, p.screen.barWidth())
	v := view{lines: []styled{{}, {text: live, style: styleGood}}, plain: plain}
	for _, w := range p.fleet.workers {
		share := now.workers[w.id]
		line := fmt.Sprintf("%s  %s in work, %d closed", w.name, plural(share.held, "range"), share.closed)
		if w.killed {
			line = fmt.Sprintf("%s  killed; %s still leased to it", w.name, plural(share.held, "range"))
			v.lines = append(v.lines, styled{text: line, style: styleBad})
			continue
		}
		v.lines = append(v.lines, styled{text: line, style: styleDim})
	}
	if missed >= 0 {
		v.lines = append(v.lines, styled{style: styleDim, text: fmt.Sprintf("application  %s writes, the slowest took %v, %s past the new column",
			grouped(p.traffic.writes()), time.Duration(p.traffic.slowest.Load()).Round(time.Millisecond), grouped(missed))})
		v.plain += fmt.Sprintf("   %s application writes", grouped(p.traffic.writes()))
	}
	return v
}

func (p *play) percent(rows int64) string {
	return fmt.Sprintf("%.0f %%", 100*float64(rows)/float64(max(1, p.emails)))
}

// grouped writes a number in groups of three digits.
func grouped(n int64) string {
	digits := fmt.Sprint(n)
	var b strings.Builder
	for i, r := range digits {
		if i > 0 && r != '-' && (len(digits)-i)%3 == 0 && digits[i-1] != '-' {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func plural[N int | int64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return grouped(int64(n)) + " " + what + "s"
}
