package kms_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms/kmstest"
)

// TestSeveralKeysConform as one does: what goes wrong with the one that wraps is what is said.
func TestSeveralKeysConform(t *testing.T) {
	t.Parallel()
	kmstest.Conform(t, func(t *testing.T) kmstest.Subject {
		t.Helper()
		first, _ := newFile(t)
		second, _ := newFile(t)
		contents := map[string][]byte{}
		for _, path := range []string{first, second} {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			contents[path] = content
		}
		write := func(path string, b []byte, mode os.FileMode) func() {
			return func() {
				if err := errors.Join(os.WriteFile(path, b, mode), os.Chmod(path, mode)); err != nil {
					t.Error(err)
				}
			}
		}
		heal := write(first, contents[first], 0o600)
		file := kmstest.Fault{Cannot: "as of a file"}
		return kmstest.Subject{
			Open:    func() (cell.KEK, error) { return kms.Open(t.Context(), "file:"+first+", file:"+second, "") },
			Secrets: []string{material(contents[first])[4:20], material(contents[second])[4:20]},
			Faults: map[string]kmstest.Fault{
				"unavailable":  {Cause: func() { _ = os.Remove(first) }, Class: cell.KEKUnavailable, Heal: heal},
				"exposed":      {Cause: write(first, contents[first], 0o640), Class: cell.KEKExposed, Heal: heal},
				"empty answer": {Cause: write(first, nil, 0o600), Class: cell.KEKCorrupt, Heal: heal},
				"both are out of reach": {Cause: func() { _, _ = os.Remove(first), os.Remove(second) }, Class: cell.KEKUnavailable, Heal: func() {
					heal()
					write(second, contents[second], 0o600)()
				}},
				"throttled": file, "slow answer": file, "truncated answer": file, "denied": file, "disabled": file, "destroyed": file, "ignores associated data": file,
			},
		}
	})
}

// wrapped is a data key under one key alone.
func wrapped(t *testing.T, kek cell.KEK) []byte {
	t.Helper()
	dek, err := cell.NewDEK()
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := cell.WrapDEK(t.Context(), kek, kmstest.Identity(), dek)
	if err != nil {
		t.Fatal(err)
	}
	return wrapped
}

// The first of several wraps; each unwraps what is under it, wherever it stands in the list and whatever became of the
// others, if it is asked by its name.
func TestOfSeveralKeysTheFirstWrapsAndEachUnwraps(t *testing.T) {
	t.Parallel()
	a, one := newFile(t)
	b, two := newFile(t)
	list := func() cell.KEK {
		t.Helper()
		kek, err := kms.Open(t.Context(), "file:"+b+",file:"+a, "")
		if err != nil {
			t.Fatal(err)
		}
		return kek
	}
	both := list()
	if both.URI() != two.URI() {
		t.Errorf("it is called %s", both.URI())
	}
	underA, underB, fresh := wrapped(t, one), wrapped(t, two), wrapped(t, both)
	opens := func(what string, kek cell.KEK, w []byte, class cell.KEKClass) {
		t.Helper()
		dek, err := cell.UnwrapDEK(t.Context(), kek, kmstest.Identity(), w)
		dek.Wipe()
		if (err == nil) != (class == "") || cell.KEKClassOf(err) != class {
			t.Errorf("%s: %v, want %q", what, err, class)
		}
	}
	opens("what it wrapped, by the first", two, fresh, "")
	opens("what it wrapped, by the other", one, fresh, cell.KEKCorrupt)
	opens("under the first", both, underB, "")
	opens("under the other", both, underA, "")
	opens("under the other, by name", cell.Under(both, one.URI()), underA, "")
	opens("under the first, by the wrong name", cell.Under(both, one.URI()), underB, cell.KEKCorrupt)
	opens("by a name that none has", cell.Under(both, "file:moved.json"), underB, "")
	if err := os.Chmod(a, 0o644); err != nil {
		t.Fatal(err)
	}
	both = list() // the other is no reason not to begin
	opens("the other is exposed", both, underA, cell.KEKExposed)
	opens("the other is exposed, under the first", cell.Under(both, two.URI()), underB, "")
	if err := os.Chmod(a, 0o600); err != nil {
		t.Fatal(err)
	}
	opens("the other is mended", both, underA, "")
	if err := os.Remove(a); err != nil {
		t.Fatal(err)
	}
	both = list()
	opens("the other is away", both, underA, cell.KEKUnavailable)
	opens("the other is away, by name", cell.Under(both, one.URI()), underA, cell.KEKUnavailable)
	opens("the other is away, under the first", both, underB, "")
	if cell.Under(one, two.URI()) != one {
		t.Error("one key stands for another")
	}
}

func TestAListOfKeysIsTakenApart(t *testing.T) {
	t.Parallel()
	for list, want := range map[string][]string{
		"file:a.json":                             {"file:a.json"},
		"file:a.json,file:b.json":                 {"file:a.json", "file:b.json"},
		"file:a, b.json , vault://h:1/t/k":        {"file:a, b.json ", "vault://h:1/t/k"},
		"aws-kms://arn:aws:kms:x:1:key/k,file:b,": {"aws-kms://arn:aws:kms:x:1:key/k", "file:b,"},
	} {
		if have := kms.Split(list); !slices.Equal(have, want) {
			t.Errorf("%s: %q", list, have)
		}
	}
	for list, known := range map[string]bool{"file:a,file:b": true, "file:a,vault://h:1/t/k": true, "file:a,vault:x": false, "nothing,file:a": false, "file:a,file:": false} {
		if kms.Known(list) != known {
			t.Errorf("%s: known %t", list, !known)
		}
	}
	dir := t.TempDir()
	if have := kms.Path("file:a.json,file:b.json", dir); have != filepath.Join(dir, "a.json") {
		t.Errorf("the file is %s", have)
	}
	path, _ := newFile(t)
	for _, wrong := range []string{fmt.Sprintf("file:%s,file:%[1]s", path), "file:" + dir + "/none.json,file:" + path, "file:" + path + ",ftp://x"} {
		if _, err := kms.Open(t.Context(), wrong, ""); cell.KEKClassOf(err) == "" {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
