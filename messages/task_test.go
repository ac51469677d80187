package messages_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/messages"
)

func TestTheLargestTaskIsSmall(t *testing.T) {
	t.Parallel()
	largest := messages.Task{Job: strings.Repeat("f", 64), Range: math.MaxInt64, Table: messages.TableToken(math.MaxUint32), Epoch: math.MaxInt64}
	body, err := largest.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if len(body) >= messages.MaxTask {
		t.Errorf("a task has %d bytes, the most is %d", len(body), messages.MaxTask)
	}
}

func TestATaskNamesItself(t *testing.T) {
	t.Parallel()
	task := messages.Task{Job: "j", Range: 42, Table: "t7", Epoch: 3}
	if got := task.ID(); got != "j/42/3" {
		t.Errorf("id is %s", got)
	}
	if got := task.Subject(); got != "cipherfleet.v1.work.j.t7" {
		t.Errorf("subject is %s", got)
	}
}

func TestATaskThatCannotBeASubjectIsNotWritten(t *testing.T) {
	t.Parallel()
	good := messages.Task{Job: "j", Range: 1, Table: "t7", Epoch: 0}
	for name, spoil := range map[string]func(*messages.Task){
		"job with dot":       func(k *messages.Task) { k.Job = "a.b" },
		"job with star":      func(k *messages.Task) { k.Job = "*" },
		"no job":             func(k *messages.Task) { k.Job = "" },
		"long job":           func(k *messages.Task) { k.Job = strings.Repeat("j", 65) },
		"table by name":      func(k *messages.Task) { k.Table = "users" },
		"table with nothing": func(k *messages.Task) { k.Table = "t" },
		"table too large":    func(k *messages.Task) { k.Table = "t12345678901" },
		"no range":           func(k *messages.Task) { k.Range = 0 },
		"negative epoch":     func(k *messages.Task) { k.Epoch = -1 },
	} {
		task := good
		spoil(&task)
		if _, err := task.Marshal(); !errors.Is(err, messages.ErrMalformed) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

func TestATaskIsReadTolerantly(t *testing.T) {
	t.Parallel()
	task, err := messages.ParseTask([]byte(`{"v":1,"job":"j","range":42,"table":"t7","epoch":3,"priority":9,"later":{"x":[1]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if task.ID() != "j/42/3" || task.Table != "t7" {
		t.Errorf("read %+v", task)
	}
}

func TestATaskOfAnotherVersionIsLeftAlone(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"v":2,"job":"j","range":42,"table":"t7","epoch":3}`,
		`{"v":2,"job":["quite","another","form"]}`,
		`{"v":0,"job":"j","range":42,"table":"t7","epoch":3}`,
		`{"job":"j","range":42,"table":"t7","epoch":3}`,
	} {
		if _, err := messages.ParseTask([]byte(body)); !errors.Is(err, messages.ErrVersion) {
			t.Errorf("%s: error is %v", body, err)
		}
	}
}

func TestWhatIsNoTaskIsMalformed(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		``, `{`, `null1`, `[]`, `"v"`, `{"v":"1"}`, `{"v":1}`, `{"v":1,"job":"j","range":"42","table":"t7","epoch":3}`,
		`{"v":1,"job":"j","range":0,"table":"t7","epoch":3}`,
	} {
		_, err := messages.ParseTask([]byte(body))
		if !errors.Is(err, messages.ErrMalformed) || errors.Is(err, messages.ErrVersion) {
			t.Errorf("%s: error is %v", body, err)
		}
	}
}

func TestEventsNeedASubject(t *testing.T) {
	t.Parallel()
	if _, err := (messages.Progress{Job: "j", Kind: "a.b"}).Marshal(); !errors.Is(err, messages.ErrMalformed) {
		t.Errorf("progress: error is %v", err)
	}
	if _, err := (messages.DeadLetter{Job: "j", Table: ">"}).Marshal(); !errors.Is(err, messages.ErrMalformed) {
		t.Errorf("dead letter: error is %v", err)
	}
}

func FuzzParseTask(f *testing.F) {
	f.Add([]byte(`{"v":1,"job":"j","range":42,"table":"t7","epoch":3}`))
	f.Add([]byte(`{"v":2}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		task, err := messages.ParseTask(body)
		if err != nil {
			if errors.Is(err, messages.ErrVersion) == errors.Is(err, messages.ErrMalformed) {
				t.Fatalf("error is neither or both: %v", err)
			}
			return
		}
		written, err := task.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := messages.ParseTask(written); err != nil || again != task {
			t.Fatalf("%+v became %+v, %v", task, again, err)
		}
	})
}
