package roadmap

import "testing"

// TestASlotThatNobodyReadsBlocks where nothing limits what it holds back. A real one would stand in the way of all tests
// of the server.
func TestASlotThatNobodyReadsBlocks(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		slot               slot
		keeps              int64
		blockers, warnings int
	}{
		"read":              {slot: slot{name: "s", active: true}, keeps: -1},
		"read, far behind":  {slot: slot{name: "s", active: true, behind: 2 * gibibyte}, keeps: -1, warnings: 1},
		"nobody reads it":   {slot: slot{name: "s"}, keeps: -1, blockers: 1},
		"with a limit":      {slot: slot{name: "s"}, keeps: gibibyte, warnings: 1},
		"read, and a limit": {slot: slot{name: "s", active: true}, keeps: gibibyte},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &mapper{}
			m.facts.server.keepsWAL = test.keeps
			m.slot(test.slot)
			if r := m.roadmap; len(r.Blockers) != test.blockers || len(r.Warnings) != test.warnings {
				t.Errorf("%+v", r)
			}
		})
	}
}
