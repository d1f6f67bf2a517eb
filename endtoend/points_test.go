package endtoend

import (
	"bytes"
	"context"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	commandpb "go.temporal.io/api/command/v1"
	enumspb "go.temporal.io/api/enums/v1"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/pocketlm"
	"github.com/selfalign/selfalign/workflows"
)

func put(name, path string, after bool, nth int) *trap {
	return &trap{name: name, method: http.MethodPut, path: regexp.MustCompile(path), after: after, nth: nth}
}

func post(name, path string) *trap {
	return &trap{name: name, method: http.MethodPost, path: regexp.MustCompile(path), after: true}
}

func decision(name string, after bool, nth int, is func(*commandpb.Command) bool) *trap {
	return &trap{name: name, command: is, after: after, nth: nth}
}

func continues(c *commandpb.Command) bool {
	return c.GetCommandType() == enumspb.COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION
}

func completes(c *commandpb.Command) bool {
	results := c.GetCompleteWorkflowExecutionCommandAttributes().GetResult().GetPayloads()
	return len(results) == 1 && bytes.Contains(results[0].GetData(), []byte(`"phase":"`+workflows.PhaseCompleted+`"`))
}

// appended has somebody put another file to the documents while the worker is dead. A run that listed them does not read it.
func appended(p *trap) *trap {
	p.meanwhile = func(l *lab) {
		var first blob.Info
		err := l.client.Store.List(l.t.Context(), l.documents, func(i blob.Info) error { first = i; return nil })
		if err == nil {
			err = l.client.Store.Put(context.WithoutCancel(l.t.Context()), first.Key+".later.html", []byte("<h1>Later</h1><p>"+strings.Repeat("What came later is not read. ", 40)))
		}
		if err != nil {
			l.logf("append: %v", err)
			l.t.Fail()
		}
	}
	return p
}

// byPattern has the documents of a run listed from S3 by a pattern.
func (l *lab) byPattern(spec *config.Run) {
	path := &spec.Documents[0].Path
	l.documents = strings.TrimPrefix(*path, l.client.Store.URI(""))
	*path += "**/*"
}

// points are where the worker is killed. Those of one group are passed in one run.
func points() map[string][]*trap {
	return map[string][]*trap{
		"listing": {
			put("files of a task written, nothing else", `/00/segments/_ingest/files-`, true, 0),
			put("files written, the listing not", `/00/segments/_ingest/listing`, false, 0),
			appended(put("listing written, answer lost", `/00/segments/_ingest/listing`, true, 0)),
			put("files read, rows not told", `/00/segments/_ingest/rows-`, false, 0),
		},
		"shuffle": {
			put("spill written, its summary not", `/00/segments/_ingest/rows-`, false, 0),
			put("plan written", `/00/segments/_ingest/plan`, true, 0),
			put("rejected rows written, kept ones not", `/00/segments/part-`, false, 3),
		},
		"search": {
			put("band keys written, their summary not", `/near-duplicates/sign-00000\.json`, false, 0),
			put("pairs gathered", `/near-duplicates/pair\.json`, true, 0),
			put("near-duplicates found, not told", `/near-duplicates/compare-00000\.json`, true, 0),
			put("decided, summary not written", `/near-duplicates/decide-00000\.json`, false, 0),
		},
		"commit": {
			put("partition written", `/00/segments/part-`, true, 5),
			put("range manifest written", `/00/segments/_ranges/`, true, 0),
			put("dataset without its manifest", `/00/segments/manifest`, false, 0),
			put("manifest written, spills not removed", `/00/seeds/manifest`, true, 0),
		},
		"ledger": {
			put("partition claimed", `^/ledger/.*/lease/`, true, 2),
			put("answers and reservation not flushed", `^/ledger/.*/wal/`, false, 8),
			put("answers and reservation flushed", `^/ledger/.*/wal/`, true, 3),
			put("compacted, small objects not removed", `^/ledger/.*/whole/`, true, 2),
		},
		"stage": {
			put("all answered, partition not written", `/00/candidates/part-`, false, 2),
			put("partition of answers written", `/01/ratings/part-`, true, 3),
			put("range of answers written", `/01/ratings/_ranges/`, true, 0),
			put("set selected, dataset without its manifest", `/01/training/manifest`, false, 0),
		},
		"training": {
			put("training file written", `/00/train/myx`, true, 0),
			post("training file uploaded, answer lost", `^/v1/files$`),
			post("job submitted, answer lost", `^/v1/fine_tuning/jobs$`),
			{name: "training file removed, end of the job not told", method: http.MethodDelete, path: regexp.MustCompile(`^/v1/files/`), after: true},
			post("model deployed, trial answer lost", `^/v1/chat/completions$`),
		},
		"run": {
			put("state recorded", `/state/01\.json`, true, 0),
			decision("iteration 1 not begun", false, 0, continues),
			decision("iteration 2 begun", true, 2, continues),
			put("report not written", `/report\.html`, false, 2),
			decision("end not told", false, 0, completes),
		},
	}
}

// TestKilledAtNamedPoints kills the worker with -9 exactly where it spends or writes, and lets the run go on by itself.
func TestKilledAtNamedPoints(t *testing.T) {
	t.Parallel()
	want := mustReference(t)
	for group, traps := range points() {
		t.Run(group, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			w := &warden{l: l, traps: traps}
			l.work(wiring{
				temporal: w.temporal(l.stack.TemporalAddress), s3: w.front(l.stack.S3.Endpoint), model: w.front(l.stack.PocketURL),
			})
			l.misbehave(pocketlm.Faults{Latency: 150, LatencySigma: 0.5})
			if group == "listing" {
				l.prepared = l.byPattern
			}
			l.start()
			l.survived(want)
			for _, p := range traps {
				require.True(t, p.sprung, "never came by: %s", p.name)
			}
			require.Len(t, l.killed(), len(traps))
		})
	}
}
