package manifest_test

import (
	"errors"
	"os"
	"reflect"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/manifest"
)

func TestMarshalOfAFirstManifest(t *testing.T) {
	t.Parallel()
	m := manifest.Default()
	m.KEK = "file:cipherfleet.kek.json"
	column := manifest.DefaultColumn("email")
	column.Scheme, column.Schemes = 1, map[int]manifest.Scheme{1: manifest.DefaultScheme()}
	table := manifest.DefaultTable()
	table.Name, table.Key, table.Columns = "users", []string{"id"}, []manifest.Column{column}
	m.Tables = []manifest.Table{table}
	have, err := manifest.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "first.golden.yaml", have)
}

func TestMarshalAndParseAreInverse(t *testing.T) {
	t.Parallel()
	m, err := manifest.Load("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text, err := manifest.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "full.golden.yaml", text)
	back, err := manifest.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, m) {
		t.Errorf("have %+v\nwant %+v", back, m)
	}
}

func TestMarshalKeepsAwkwardNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"true", "null", "~", "2024", "1e3", "a: b", "# a", "- a", `"`, `'`, `a"b'c`, " a ", "a\nb", "a\tb", "é", "😀", "*x", "&x", "<<", "!t", "{", "[", "%", "@", "\u2028", "yes"} {
		m := manifest.Default()
		column := manifest.DefaultColumn(name)
		column.Scheme, column.Schemes = 1, map[int]manifest.Scheme{1: manifest.DefaultScheme()}
		m.Tables = []manifest.Table{{Schema: name, Name: name, Key: []string{name + "k"}, Where: name, Columns: []manifest.Column{column}}}
		text, err := manifest.Marshal(m)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if back, err := manifest.Parse(text); err != nil || !reflect.DeepEqual(back, m) {
			t.Errorf("%q: %v, have %+v", name, err, back)
		}
	}
}

func TestMarshalRefusesWhatParseRefuses(t *testing.T) {
	t.Parallel()
	m := manifest.Default()
	m.Tables = []manifest.Table{{Schema: "public", Name: ""}}
	_, err := manifest.Marshal(m)
	var wrong *manifest.Error
	if !errors.As(err, &wrong) {
		t.Errorf("have %v, want an *Error", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, test := range refusals() {
		f.Add([]byte(test.text))
	}
	for _, name := range []string{"testdata/full.yaml", "testdata/first.golden.yaml"} {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := manifest.Parse(text)
		if err != nil {
			var wrong *manifest.Error
			if !errors.As(err, &wrong) || len(wrong.Problems) == 0 || wrong.Problems[0].Line < 1 || wrong.Problems[0].Column < 1 {
				t.Fatalf("have %#v, want an *Error with positions", err)
			}
			return
		}
		again, err := manifest.Marshal(m)
		if err != nil {
			t.Fatalf("marshal what was parsed: %v", err)
		}
		if back, err := manifest.Parse(again); err != nil || !reflect.DeepEqual(back, m) {
			t.Fatalf("%v: have %+v\nwant %+v", err, back, m)
		}
	})
}
