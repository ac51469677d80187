package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/coordinator/control/verify"
	"github.com/cipherfleet/cipherfleet/pkg/app"
)

// report is what a verification found, as it is filed: with the program that found it.
type report struct {
	Program string `json:"program"`
	verify.Result
}

// reportFiles are the two files of a report, not under their names before it is complete. The zero reportFiles is none.
type reportFiles struct {
	names []string // JSON, text
	files []*os.File
}

// openReport makes sure, before hours of reading, that the report can be written.
func openReport(name string) (r *reportFiles, err error) {
	r = &reportFiles{}
	if name == "" {
		return r, nil
	}
	text := strings.TrimSuffix(name, filepath.Ext(name)) + ".txt"
	if text == name {
		return nil, &app.Fail{Code: app.CodeUsage, Err: fmt.Errorf("--report was %q: that is where the text goes", name), Hint: "name the JSON file, as in " + strings.TrimSuffix(name, ".txt") + ".json"}
	}
	r.names = []string{name, text}
	for _, name := range r.names {
		file, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
		if err != nil {
			r.discard()
			return nil, unwritable(err)
		}
		r.files = append(r.files, file)
	}
	return r, nil
}

func unwritable(err error) error {
	code := app.CodeUsage
	if errors.Is(err, fs.ErrPermission) {
		code = app.CodeDenied
	}
	return &app.Fail{Code: code, Err: fmt.Errorf("write the report: %w", err), Hint: "name a file in a folder that exists and may be written to"}
}

// keep writes the report and gives the files their names. They may be read by their owner alone.
func (r *reportFiles) keep(v verify.Result) error {
	if len(r.files) == 0 {
		return nil
	}
	filed := report{app.Version(), v}
	encoder := json.NewEncoder(r.files[0])
	encoder.SetIndent("", "  ")
	err := encoder.Encode(filed)
	if err == nil {
		_, err = fmt.Fprintf(r.files[1], "Verification of %s in database %s, installation %s\nby cipherfleet %s, from %s to %s\n\n", v.Table, v.Database, v.Installation,
			filed.Program, v.Began.UTC().Format(time.RFC3339), v.Ended.UTC().Format(time.RFC3339))
	}
	if err == nil {
		err = page.Verification(r.files[1], v)
	}
	for i, file := range r.files {
		err = errors.Join(err, file.Sync(), file.Close())
		if err == nil {
			err = os.Rename(file.Name(), r.names[i])
		}
	}
	if err != nil {
		return unwritable(err)
	}
	r.files = nil
	return nil
}

// discard takes away what was not kept.
func (r *reportFiles) discard() {
	for _, file := range r.files {
		_ = file.Close() // it may be closed already
		_ = os.Remove(file.Name())
	}
}
