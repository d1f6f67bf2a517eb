package endtoend

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/pocketlm"
)

// kill is the death of something, between two moments.
type kill struct {
	what         string
	sent, buried time.Time
}

// Answers may be lost when they came this short a time before a kill: two seconds, and what a loaded machine is late.
const (
	unwritten = 2 * time.Second
	slack     = 3 * time.Second
)

// question is what the model server's journal tells about one request.
type question struct {
	model    string
	answers  []answer
	received time.Time // of the newest request
}

type answer struct{ received, answered time.Time }

// account reads the journal of the model server.
type account struct {
	questions map[pocketlm.Digest]*question
	smoke     map[pocketlm.Digest]bool // the first question to each model is whether it answers; that is no row's
	files     int
	jobs      int
}

func readAccount(t *testing.T, dir string) account {
	t.Helper()
	a := account{questions: map[pocketlm.Digest]*question{}, smoke: map[pocketlm.Digest]bool{}}
	models := map[string]bool{}
	for e, err := range pocketlm.Journal(dir) {
		require.NoError(t, err)
		switch {
		case e.Route == "files" && e.Kind == pocketlm.Answered:
			a.files++
		case e.Route == "fine_tuning.jobs" && e.Kind == pocketlm.Answered:
			a.jobs++
		}
		if !strings.HasSuffix(e.Route, "completions") {
			continue
		}
		if !models[e.Model] {
			models[e.Model], a.smoke[e.Digest] = true, true
		}
		q := a.questions[e.Digest]
		if q == nil {
			q = &question{model: e.Model}
			a.questions[e.Digest] = q
		}
		switch e.Kind {
		case pocketlm.Received:
			q.received = e.At
		case pocketlm.Answered:
			q.answers = append(q.answers, answer{q.received, e.At})
		}
	}
	return a
}

// answered counts the answers to rows' questions, and the questions.
func (a account) answered() (answers, questions int) {
	for digest, q := range a.questions {
		if !a.smoke[digest] && len(q.answers) > 0 {
			questions++
			answers += len(q.answers)
		}
	}
	return answers, questions
}

// repeated checks every answer beyond the first: it must have been in flight at a kill or come in the last two seconds before
// one. It returns their number.
func (a account) repeated(t *testing.T, kills []kill) (n int) {
	t.Helper()
	for digest, q := range a.questions {
		if a.smoke[digest] {
			continue
		}
		for i := 1; i < len(q.answers); i++ {
			n++
			if before := q.answers[i-1]; !before.lostIn(kills) {
				t.Errorf("asked again although written down: %s of %s, received %s, answered %s, asked again %s; kills %s", digest, q.model,
					clock(before.received), clock(before.answered), clock(q.answers[i].received), killTimes(kills))
			}
		}
	}
	return n
}

func (a answer) lostIn(kills []kill) bool {
	for _, k := range kills {
		if !a.received.After(k.buried) && !a.answered.Before(k.sent.Add(-unwritten-slack)) {
			return true
		}
	}
	return false
}

func clock(at time.Time) string { return at.Format("15:04:05.000") }

func killTimes(kills []kill) string {
	var out []string
	for _, k := range kills {
		out = append(out, k.what+" "+clock(k.sent))
	}
	return strings.Join(out, ", ")
}

// submitted checks that no job is there twice, two models of iteration 0 and one of each that follows, and that the files of
// jobs that ended were removed.
func (l *lab) submitted(iterations int) {
	t := l.t
	t.Helper()
	want := 2 + iterations
	for path, want := range map[string]int{"files?purpose=fine-tune&": 0, "fine_tuning/jobs?": want} {
		var list struct{ Data []struct{ ID string } }
		response, err := http.Get(fmt.Sprintf("%s/v1/%slimit=100", l.stack.PocketURL, path))
		require.NoError(t, err)
		require.NoError(t, json.NewDecoder(response.Body).Decode(&list))
		_ = response.Body.Close()
		require.Len(t, list.Data, want, path)
	}
	for _, k := range l.killed() {
		if k.what != partWorker {
			return // between making something and noting it the server may have died
		}
	}
	a := readAccount(t, l.stack.PocketDir)
	require.Equal(t, want, a.files, "files that were taken")
	require.Equal(t, want, a.jobs, "jobs that were taken")
}
