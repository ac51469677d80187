package status

import "testing"

// TestAnEstimateStaysWithinItsTable: shares of a sample are rounded up, and together they are no more than there is.
func TestAnEstimateStaysWithinItsTable(t *testing.T) {
	t.Parallel()
	for seen := int64(2); seen < 200; seen++ {
		for outside := range seen + 1 {
			l := &Look{Survey: &Survey{}}
			some := []group{{rows: outside / 2, outside: true}, {plain: true, rows: outside - outside/2, outside: true}, {sealed: true, plain: true, scheme: 1, rows: (seen - outside) / 2}, {plain: true, rows: seen - outside - (seen-outside)/2}}
			l.add(some, 70.1)
			if c := l.Status.Coverage; c.Total < 0 || c.Uncovered < 0 || c.Covered < 0 || c.Covered+c.Uncovered != c.Total || c.Total+c.Outside != int64(float64(seen)/70.1*100) {
				t.Fatalf("of %d rows seen %d are outside: %+v", seen, outside, c)
			}
			for _, s := range l.Status.Schemes {
				if s.Rows > l.Status.Coverage.Covered {
					t.Fatalf("of %d rows seen %d are outside: %+v, and %d cells of a scheme", seen, outside, l.Status.Coverage, s.Rows)
				}
			}
		}
	}
}
