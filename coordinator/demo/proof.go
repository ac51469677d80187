package demo

import (
	"context"
	"errors"
	"fmt"

	"github.com/cipherfleet/cipherfleet/coordinator/control/verify"
	"github.com/cipherfleet/cipherfleet/pkg/app"
)

// prove decrypts every row, shows the sample again and the figures, and demands that everything is as it should be.
func (p *play) prove(ctx context.Context) error {
	rows, err := p.verify(ctx)
	if err != nil {
		return err
	}
	p.screen.clear()
	if err := p.judge(rows); err != nil {
		return &app.Fail{Code: app.CodeUnproven, Err: err}
	}
	p.screen.good(fmt.Sprintf("proven: each of %s rows decrypts to its source", grouped(rows)))
	if err := p.showSample(ctx, true); err != nil {
		return err
	}
	if err := p.stage.awaitSpans(ctx, p.figures.TraceID); err != nil {
		return err
	}
	p.showFigures()
	return nil
}

// judge says what is not proven.
func (p *play) judge(rows int64) (failed error) {
	f, v := p.figures, p.figures.Verified
	demand := func(holds bool, format string, args ...any) {
		if !holds {
			failed = errors.Join(failed, fmt.Errorf(format, args...))
		}
	}
	demand(v.Rows == rows, "%d rows were verified, and the table has %d", v.Rows, rows)
	demand(v.Proven(), "of %d rows %d are uncovered, %d are stale and %d are broken", v.Rows, v.Uncovered, v.Stale, v.Broken)
	demand(f.Killed != "", "no worker was killed: none held a range when half of the rows were done; try more rows")
	demand(f.Killed == "" || f.Redelivered > 0, "%s was killed, but nothing that it held was taken up again", f.Killed)
	return failed
}

// verify opens every cell and compares it with its source. It returns how many rows the table has.
func (p *play) verify(ctx context.Context) (rows int64, err error) {
	if err := p.stage.db.QueryRow(ctx, `SELECT count(*) FROM public.users`).Scan(&rows); err != nil {
		return 0, fmt.Errorf("count the table's rows: %w", err)
	}
	p.screen.event("the proof: every cell is opened and compared with its source")
	meter := newMeter(rows)
	verifier := &verify.Verifier{DB: p.stage.db, KEK: p.stage.kek, Seen: func(seen, _ int64) {
		p.screen.progress(func() view {
			live, plain := meter.bar(seen, p.screen.barWidth())
			return view{lines: []styled{{}, {text: live, style: styleGood}}, plain: plain}
		})
	}}
	verified, err := verifier.Verify(ctx, verify.Request{Schema: "public", Table: "users", Columns: []string{"email"}})
	if err != nil {
		return 0, err
	}
	p.figures.Verified = verified.Columns[0].Report
	return rows, nil
}
