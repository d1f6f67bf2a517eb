package ledger

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/selfalign/selfalign/internal/dataset"
)

func question() Question {
	return Question{
		Turns:    []Turn{{"system", "You rate."}, {"user", "Rate this."}},
		Revision: "m1", Temperature: 0.7, TopP: 0.9, MaxTokens: 512, Sample: 1, Attempt: 1,
	}
}

// A changed key asks every question of every user again.
func TestKeysStayAsTheyAre(t *testing.T) {
	t.Parallel()
	if got, want := KeyOf(question()), Key("d5be6bd20abcd75457cb9d67decac2f0"); got != want {
		t.Fatalf("key is %s, was %s", got, want)
	}
}

func TestKeysTellQuestionsApart(t *testing.T) {
	t.Parallel()
	changes := map[string]func(*Question){
		"nothing":     func(*Question) {},
		"revision":    func(q *Question) { q.Revision = "m2" },
		"temperature": func(q *Question) { q.Temperature = 0.8 },
		"top p":       func(q *Question) { q.TopP = 0.8 },
		"max tokens":  func(q *Question) { q.MaxTokens = 513 },
		"sample":      func(q *Question) { q.Sample = 2 },
		"attempt":     func(q *Question) { q.Attempt = 2 },
		"text":        func(q *Question) { q.Turns[1].Content = "Rate this!" },
		"role":        func(q *Question) { q.Turns[1].Role = "assistant" },
		"order":       func(q *Question) { q.Turns[0], q.Turns[1] = q.Turns[1], q.Turns[0] },
		"fewer turns": func(q *Question) { q.Turns = q.Turns[1:] },
		"joined": func(q *Question) {
			q.Turns = []Turn{{"system", "You rate.\x00\x00user" + "Rate this."}}
		},
	}
	seen := map[Key]string{}
	for name, change := range changes {
		q := question()
		change(&q)
		k := KeyOf(q)
		if other, ok := seen[k]; ok {
			t.Errorf("%s and %s have one key", name, other)
		}
		seen[k] = name
		if s := k.Seed(); s < 0 || s > 1<<31-1 {
			t.Errorf("seed of %s is %d", name, s)
		}
	}
}

func TestNamesOfObjectsReadAsWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := shelf{rapid.StringMatching(`[0-9a-f]{16}`).Draw(t, "scope"), rapid.IntRange(0, 32).Draw(t, "bits"), rapid.IntRange(0, 1<<24).Draw(t, "part")}
		o := object{kind: rapid.SampledFrom([]kind{kindOld, kindLease, kindWAL, kindWhole}).Draw(t, "kind"), epoch: rapid.Int64Range(1, 1<<40).Draw(t, "epoch")}
		if o.kind != kindLease {
			o.seq = rapid.Int64Range(1, 1<<40).Draw(t, "seq")
		}
		got, ok := s.parse(s.key(o))
		if !ok || got != o {
			t.Fatalf("%s reads as %+v, %t", s.key(o), got, ok)
		}
		gotShelf, ok := parseShelf(s.scope, s.key(o))
		if !ok || gotShelf != s {
			t.Fatalf("%s lies on %+v, %t", s.key(o), gotShelf, ok)
		}
		_, _ = s.parse(s.dir() + rapid.String().Draw(t, "foreign"))
	})
}

func TestPartitionOfARow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		id   string
		bits int
		want int
		ok   bool
	}{
		{"ffffffffffffffffffffffffffffffff", 0, 0, true},
		{"ffffffffffffffffffffffffffffffff", 3, 7, true},
		{"5fffffffffffffffffffffffffffffff", 3, 2, true},
		{"0123456789abcdef0123456789abcdef", 16, 0x123, true},
		{"0123", 4, 0, false},
		{"xyzxyzxyz", 4, 0, false},
	} {
		got, err := partOf(c.id, c.bits)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%s at %d bits: %d, %v", c.id, c.bits, got, err)
		}
	}
}

func TestRoomStaysUnderTheCap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(-1, 1000)
		c := Cap{Calls: limit.Draw(t, "calls"), Tokens: limit.Draw(t, "tokens"), MicroUSD: limit.Draw(t, "money")}
		small := rapid.Int64Range(0, 50)
		draw := func(what string) dataset.Usage {
			return dataset.Usage{
				Calls: 1, PromptTokens: small.Draw(t, what+" prompt"), CompletionTokens: small.Draw(t, what+" completion"),
				MicroUSD: small.Draw(t, what+" money"),
			}
		}
		used, each := times(draw("used"), small.Draw(t, "times")), draw("each")
		n := rapid.Int64Range(0, 100).Draw(t, "n")
		got := c.room(used, each, n)
		if got < 0 || got > n {
			t.Fatalf("room for %d of %d", got, n)
		}
		within := func(k int64) bool {
			u := used.Add(times(each, k))
			ok := func(limit, all, one int64) bool { return limit < 0 || one == 0 || all <= limit }
			return ok(c.Calls, u.Calls, 1) && ok(c.Tokens, u.PromptTokens+u.CompletionTokens, each.PromptTokens+each.CompletionTokens) &&
				ok(c.MicroUSD, u.MicroUSD, each.MicroUSD)
		}
		if (got > 0 && !within(got)) || (got < n && within(got+1)) {
			t.Fatalf("room for %d beside %+v under %+v", got, used, c)
		}
	})
}
