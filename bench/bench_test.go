package main

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/devstack"
	"github.com/selfalign/selfalign/internal/devstack/links"
	"github.com/selfalign/selfalign/internal/pocketlm"
)

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args string
		code int
		out  string // of either stream
	}{
		{"", exitUsage, "go run ./bench crash"},
		{"--help", exitOK, "go run ./bench history"},
		{"speed", exitUsage, `there is no "speed"`},
		{"stage -h", exitOK, "-in-flight"},
		{"run -h", exitOK, "-iterations"},
		{"crash -h", exitOK, "-every"},
		{"neardup -h", exitOK, "-threshold"},
		{"ingest -h", exitOK, "-record-mb"},
		{"ingest -pages 2", exitUsage, "-pages above 0"},
		{"history -h", exitOK, "-partitions"},
		{"stage -rows 0", exitUsage, "must be at least 1"},
		{"stage -task sing", exitUsage, "rate or backtranslate"},
		{"crash more", exitUsage, `what is "more"?`},
		{"run -rows much", exitUsage, "invalid value"},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), strings.Fields(c.args), &out, &errs)
		if text := out.String() + errs.String(); code != c.code || !strings.Contains(text, c.out) || strings.Contains(text, refereeChild) {
			t.Errorf("%q: %d\n%s", c.args, code, text)
		}
	}
}

// A referee that gives 100 calls in flight a latency of 2 s and answers 45 a second has 90 % of the ideal, whatever came before
// and after the steady part.
func TestRates(t *testing.T) {
	t.Parallel()
	var samples []sample
	at := time.Unix(0, 0)
	area := 0.0
	for s := range 300 {
		answered, flying := int64(45*s), 90.0
		switch {
		case s < 5: // it begins slowly
			answered, flying = 0, 10
		case answered > 9000: // and has a long tail
			answered, flying = 9000+int64(s-200), 1
		}
		area += flying
		samples = append(samples, sample{at.Add(time.Duration(s) * time.Second), pocketlm.Stats{
			Answered: answered, Seconds: float64(s + 1), AverageInFlight: area / float64(s+1), PeakInFlight: 93, PlannedLatency: 2,
		}})
	}
	r := ratesOf(samples, 9000, 100)
	if near := func(got, want float64) bool { return math.Abs(got-want) < want/100 }; !near(r.Steady, 45) || !near(r.Latency, 2) || !near(r.Ideal, 50) ||
		!near(r.Share, 0.9) || !near(r.Attained, 90) || r.PeakInFlight != 93 || r.PerSecond > 40 {
		t.Errorf("%+v", r)
	}
	if r := ratesOf(nil, 9000, 100); r != (rates{}) {
		t.Errorf("of nothing: %+v", r)
	}
}

// Only a worker that died, in time, explains that an answer was asked for again.
func TestDuplicatesAreExplained(t *testing.T) {
	t.Parallel()
	begin := time.Unix(1000, 0)
	s := func(seconds float64) time.Time { return begin.Add(time.Duration(seconds * float64(time.Second))) }
	worker := kill{What: "worker", At: s(100), Back: s(101)}
	for _, c := range []struct {
		name     string
		kills    []kill
		answered time.Time
		flight   int
		fresh    int
		bad      int
	}{
		{"answered after the death", []kill{worker}, s(101), 1, 0, 0},
		{"answered long after it", []kill{worker}, s(110), 0, 0, 1},
		{"answered just before it", []kill{worker}, s(98), 0, 1, 0},
		{"answered long before it", []kill{worker}, s(97), 0, 0, 1},
		{"S3 was away meanwhile", []kill{{What: devstack.ServiceLocal, At: s(91), Back: s(99)}, worker}, s(90.5), 0, 1, 0},
		{"S3 was back for long", []kill{{What: devstack.ServiceLocal, At: s(85), Back: s(90)}, worker}, s(84), 0, 0, 1},
		{"its link to S3 hung", []kill{{What: linkS3, Kind: links.Hang, At: s(90), Back: s(92)}, worker}, s(89), 0, 1, 0},
		{"only Temporal died", []kill{{What: devstack.ServiceTemporal, At: s(100), Back: s(101)}}, s(99), 0, 0, 1},
		{"nothing died", nil, s(99), 0, 0, 1},
	} {
		r := crashResult{Kills: c.kills}
		r.account(c.answered)
		if r.InFlight != c.flight || r.Fresh != c.fresh || r.Bad != c.bad {
			t.Errorf("%s: in flight %d, unwritten %d, bad %d", c.name, r.InFlight, r.Fresh, r.Bad)
		}
	}
}

func TestBilledIsBetween(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		paid, billed, doubt int64
		want                bool
	}{{100, 100, 0, true}, {100, 110, 10, true}, {100, 111, 10, false}, {100, 99, 10, false}} {
		r := crashResult{Paid: c.paid, Tokens: c.billed, InDoubt: c.doubt, Same: true}
		var out bytes.Buffer
		r.print(&out, "")
		if r.balanced() != c.want || strings.Contains(out.String(), "in this order: true") != c.want {
			t.Errorf("%+v\n%s", c, out.String())
		}
	}
}

// A service that was several processes used what all of them did.
func TestMeterAddsProcesses(t *testing.T) {
	t.Parallel()
	if usageOf(os.Getpid()).Peak == 0 {
		if _, err := os.Stat(filepath.Join("/proc", "self", "stat")); err == nil {
			t.Fatal("nothing is read of /proc")
		}
		return // not Linux: shown as unknown
	}
	m := meter{pid: 1, base: usage{CPU: 2}, last: usage{CPU: 5}}
	m.look(os.Getpid())
	if got := m.total(); got.CPU < 3 || got.Peak <= 0 {
		t.Errorf("%+v", got)
	}
	before := m.total().CPU
	m.look(-1) // gone: what it used stays
	if got := m.total().CPU; got < before {
		t.Errorf("%v after %v", got, before)
	}
}
