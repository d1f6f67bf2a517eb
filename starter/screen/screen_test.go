package screen_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mattn/go-runewidth"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/eval"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/starter/screen"
	"github.com/selfalign/selfalign/workflows"
)

var update = flag.Bool("update", false, "write golden files")

var began = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// midRun is a run in its first iteration.
func midRun() runs.Seen {
	at := func(s int) time.Time { return began.Add(time.Duration(s) * time.Second) }
	usage := func(calls, in, out, usd int64) dataset.Usage {
		return dataset.Usage{Calls: calls, PromptTokens: in, CompletionTokens: out, MicroUSD: usd}
	}
	return runs.Seen{Live: true, Status: workflows.Status{
		Run: "demo", Phase: workflows.PhaseRunning, Iteration: 1, Iterations: 2, StartedAt: began, UpdatedAt: at(200),
		Spent: usage(712, 401_222, 81_000, 1_250_000), Budget: config.Budget{USD: 5, Calls: 2000},
		Stages: []workflows.StageStatus{
			{Name: "ingest segments", Unit: "documents", State: "done", Done: 80, Total: 80, Rejected: 31, StartedAt: at(0), EndedAt: at(2)},
			{Name: "train myx", Unit: "steps", State: "done", Done: 30, Total: 30, Loss: 1.234, StartedAt: at(2), EndedAt: at(60)},
			{Name: "augment", Unit: "rows", State: "done", Done: 412, Total: 412, Rejected: 3, Usage: usage(430, 300_000, 20_000, 900_000), StartedAt: at(60), EndedAt: at(120)},
			{Name: "rate", Iteration: 1, Unit: "rows", State: "running", Done: 130, Total: 409, Reused: 12, Usage: usage(282, 101_222, 61_000, 350_000), StartedAt: at(150), Histogram: map[string]int64{"1": 10, "2": 40, "3": 50, "4": 20, "4.5": 6, "5": 4}},
		},
	}}
}

// tried is a run whose judge was tried out, and is no good.
func tried() runs.Seen {
	seen := midRun()
	seen.Calibration = &eval.Calibration{
		Positives: 50, Negatives: 50, Rated: 97, ParseRate: 0.83, Threshold: 4.5, TruePositives: 10, FalsePositives: 8,
		Precision: 0.56, Recall: 0.2, AUC: 0.55, MeanPositive: 3.2, MeanNegative: 3.1, OnTraining: true,
	}
	seen.Warnings = []string{
		"iteration 1: only 83 % of the judge's answers could be read. Try rate.method: json, more rate.max_tokens, or another judge",
		"iteration 1: the judge rates seed pairs hardly above shuffled ones (AUC 0.55; 0.5 is chance): its selection means little",
	}
	return seen
}

func rate(s workflows.StageStatus) float64 {
	if s.State == "running" {
		return 2.6
	}
	return float64(s.Done) / s.EndedAt.Sub(s.StartedAt).Seconds()
}

func TestTable(t *testing.T) {
	t.Parallel()
	done := midRun()
	done.Phase, done.UpdatedAt = workflows.PhaseCompleted, began.Add(time.Hour)
	done.Sets = []workflows.IterationSummary{
		{Iteration: 1, Histogram: map[string]int64{"1": 10, "3": 300, "5": 90}, Selected: 90},
		{Iteration: 2, Histogram: map[string]int64{"1": 5, "3": 200, "4.5": 100, "5": 95}, Selected: 195},
	}
	blocked := midRun()
	blocked.Phase, blocked.Message = workflows.PhaseBlocked, "the provider refuses the key (401).\nExport a valid OPENAI_API_KEY to the workers, start them again, then: starter retry demo"
	blocked.Spent.UnknownPrice, blocked.InDoubt.Calls = 12, 4
	hostile := midRun()
	hostile.Run, hostile.Message, hostile.Stages[3].Name = "de\x1b[2Jmo", "a\x07b\u202ec 漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字", "rate \x1b]0;x\x07"
	for _, tt := range []struct {
		name          string
		seen          runs.Seen
		width, height int
	}{{"running", midRun(), 120, 40}, {"tried", tried(), 140, 40}, {"tried-narrow", tried(), 60, 40}, {"narrow", midRun(), 60, 40}, {"usual", midRun(), 80, 24}, {"low", midRun(), 120, 9}, {"completed", done, 120, 40}, {"blocked", blocked, 100, 40}, {"hostile", hostile, 100, 40}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			lines := screen.Table(tt.seen, rate, began.Add(200*time.Second), tt.width, tt.height, false)
			for _, l := range lines {
				if w := runewidth.StringWidth(l); w > tt.width {
					t.Errorf("line of %d cells on %d: %s", w, tt.width, l)
				}
				if strings.ContainsAny(l, "\x1b\x07\n\u202e") {
					t.Errorf("line steers the terminal: %q", l)
				}
			}
			golden(t, "table-"+tt.name+".txt", strings.Join(lines, "\n")+"\n")
		})
	}
}

func TestPipe(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := screen.New(&out)
	now := began.Add(150 * time.Second)
	seen := midRun()
	seen.Stages = seen.Stages[:3]
	s.Show(seen, now)
	s.Show(seen, now.Add(time.Second)) // nothing new: no line
	seen = midRun()
	for i, done := range []int64{0, 20, 60, 130, 409} {
		seen.Stages[3].Done = done
		s.Show(seen, now.Add(time.Duration(2+6*i)*time.Second))
	}
	seen.Stages[3].State, seen.Stages[3].EndedAt = "done", began.Add(200*time.Second)
	seen.Sets = []workflows.IterationSummary{{Iteration: 1, Histogram: seen.Stages[3].Histogram, Selected: 10}}
	s.Show(seen, now.Add(40*time.Second))
	seen.Calibration, seen.Warnings = tried().Calibration, tried().Warnings
	seen.Sets[0].Calibration = seen.Calibration
	s.Show(seen, now.Add(40*time.Second))
	seen.Warnings[0] = strings.Replace(seen.Warnings[0], "83", "84", 1) // no other warning
	s.Show(seen, now.Add(40*time.Second))
	seen.Phase, seen.Message = workflows.PhaseBlocked, "no money\nadd some"
	s.Show(seen, now.Add(41*time.Second))
	s.Close()
	golden(t, "pipe.txt", out.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 99_999: "99,999", 100_000: "100.0k", 999_999: "1.00M", 1_234_567: "1.23M", 12_345_678: "12.3M", 12_345_678_901: "12.3G"} {
		if got := screen.Count(n); got != want {
			t.Errorf("count %d is %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0s", -time.Second: "0s", 59 * time.Second: "59s", 187 * time.Second: "3m07s", 2*time.Hour + 5*time.Minute: "2h05m", 76 * time.Hour: "3d04h"} {
		if got := screen.Span(d); got != want {
			t.Errorf("span %v is %s, want %s", d, got, want)
		}
	}
	for n, want := range map[int64]string{12: "12 B", 999: "999 B", 1500: "1.5 kB", 3_400_000: "3.4 MB", 5e12: "5.0 TB"} {
		if got := screen.Bytes(n); got != want {
			t.Errorf("%d bytes are %s, want %s", n, got, want)
		}
	}
	for want, u := range map[string]dataset.Usage{
		"$1.50": {Calls: 2, MicroUSD: 1_500_000}, "cost unknown": {Calls: 2, UnknownPrice: 2}, "$0.10 + unknown": {Calls: 2, UnknownPrice: 1, MicroUSD: 100_000},
		"$4.00 + unknown": {Calls: 2, UnknownPrice: 2, MicroUSD: 4_000_000}, // of trainings
	} {
		if got := screen.Money(u); got != want {
			t.Errorf("money is %s, want %s", got, want)
		}
	}
	if got := screen.Spending(workflows.Status{Unpriced: 2}); !strings.Contains(got, "trainings of unknown cost: 2") {
		t.Error(got)
	}
}
