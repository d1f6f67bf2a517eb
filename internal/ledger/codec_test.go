package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"github.com/selfalign/selfalign/internal/dataset"
)

func drawUsage(t *rapid.T, label string) dataset.Usage {
	n := rapid.Int64Range(0, 1<<40)
	return dataset.Usage{
		Calls: n.Draw(t, label+" calls"), PromptTokens: n.Draw(t, label+" prompt"),
		CompletionTokens: n.Draw(t, label+" completion"), MicroUSD: n.Draw(t, label+" money"),
	}
}

func drawEntry(t *rapid.T) *Entry {
	text := rapid.String()
	n := rapid.Int64Range(0, 1<<40)
	e := &Entry{
		Key: Key(rapid.StringMatching(`[0-9a-f]{32}`).Draw(t, "key")), Row: rapid.StringMatching(`[0-9a-f]{32}`).Draw(t, "row"),
		Sample: rapid.IntRange(1, 9).Draw(t, "sample"), Attempt: rapid.IntRange(1, 9).Draw(t, "attempt"),
		Status: rapid.SampledFrom([]Status{StatusAnswered, StatusRefused, StatusFailed}).Draw(t, "status"),
		Text:   text.Draw(t, "text"), FinishReason: text.Draw(t, "finish"), Model: text.Draw(t, "model"),
		PromptTokens: n.Draw(t, "prompt"), CachedTokens: n.Draw(t, "cached"), CompletionTokens: n.Draw(t, "completion"),
		MicroUSD: n.Draw(t, "money"), CostKnown: rapid.Bool().Draw(t, "known"), LatencyMS: n.Draw(t, "latency"),
		Tries: rapid.IntRange(0, 9).Draw(t, "tries"), At: time.Unix(rapid.Int64Range(0, 1<<32).Draw(t, "at"), 0).UTC(),
		ErrorClass: text.Draw(t, "class"), ErrorMessage: text.Draw(t, "message"),
		Epoch: n.Draw(t, "epoch"), N: n.Draw(t, "n"),
	}
	if rapid.Bool().Draw(t, "logprobs") {
		e.LogProbs = json.RawMessage(`[{"token":"5","logprob":-0.25}]`)
	}
	return e
}

func drawHeader(t *rapid.T) header {
	return header{
		Format: format, Scope: rapid.StringMatching(`[0-9a-f]{16}`).Draw(t, "scope"), Bits: rapid.IntRange(0, 32).Draw(t, "bits"),
		Part: rapid.IntRange(0, 1<<20).Draw(t, "part"),
		Epochs: []epochState{{
			Epoch: rapid.Int64Range(1, 99).Draw(t, "epoch"), Seq: rapid.Int64Range(0, 99).Draw(t, "seq"), Run: rapid.String().Draw(t, "run"),
			Reserved: drawUsage(t, "reserved"), Settled: drawUsage(t, "settled"), Closed: rapid.Bool().Draw(t, "closed"),
		}},
	}
}

func TestObjectsReadAsWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := drawHeader(t)
		entries := rapid.SliceOfN(rapid.Custom(drawEntry), 0, 5).Draw(t, "entries")
		body, err := encode(h, entries)
		if err != nil {
			t.Fatal(err)
		}
		gotH, got, err := decode(body)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(h, gotH, cmp.AllowUnexported(epochState{})); d != "" {
			t.Fatal(d)
		}
		if d := cmp.Diff(entries, got, cmpopts.IgnoreUnexported(Entry{}), cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
	})
}

func TestDamagedObjectsAreErrors(t *testing.T) {
	t.Parallel()
	h := header{Scope: "s", Epochs: []epochState{{Epoch: 1}}}
	body, err := encode(h, []*Entry{{Key: "a", Text: "some answer that is long enough"}, {Key: "b", Text: "another"}})
	if err != nil {
		t.Fatal(err)
	}
	head, entries, err := decode(body)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		damaged := bytes.Clone(body)
		switch rapid.SampledFrom([]string{"cut", "flip", "append"}).Draw(t, "damage") {
		case "cut":
			damaged = damaged[:rapid.IntRange(0, len(body)-1).Draw(t, "at")]
		case "flip":
			damaged[rapid.IntRange(0, len(body)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "by"))
		case "append":
			damaged = append(damaged, encoder.EncodeAll([]byte("{}\n"), nil)...)
		}
		// Some bits change nothing about what is decoded: the same text can be compressed in several ways.
		h, e, err := decode(damaged)
		if same := err == nil && reflect.DeepEqual(h, head) && reflect.DeepEqual(e, entries); !same && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("error is %v, decoded is %+v %+v", err, h, e)
		}
	})
}

func TestForeignFormatsAreErrors(t *testing.T) {
	t.Parallel()
	w, err := newWriter(header{})
	if err != nil {
		t.Fatal(err)
	}
	w.buf.Reset()
	w.buf.WriteString(`{"selfalign_ledger":2}` + "\n")
	body, err := w.finish()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := decode(body); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("error is %v", err)
	}
	bomb := encoder.EncodeAll(make([]byte, 64<<20), nil)
	small, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer small.Close()
	if _, err := small.DecodeAll(bomb, nil); err == nil {
		t.Fatal("the decoder takes more than its limit")
	}
}

func FuzzDecode(f *testing.F) {
	for _, entries := range [][]*Entry{nil, {{Key: "a", Text: "x"}}, {{Key: "a"}, {Key: "b", LogProbs: json.RawMessage(`[]`)}}} {
		body, err := encode(header{Scope: "s", Epochs: []epochState{{Epoch: 1, Seq: 2}}}, entries)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add(encoder.EncodeAll([]byte("{}\n{}\n{\"end\":0}\n"), nil))
	f.Fuzz(func(t *testing.T, body []byte) {
		h, entries, err := decode(body)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error is %v", err)
			}
			return
		}
		again, err := encode(h, entries)
		if err != nil {
			t.Fatal(err)
		}
		_, got, err := decode(again)
		if err != nil || len(got) != len(entries) {
			t.Fatalf("read again: %d entries, %v", len(got), err)
		}
	})
}
