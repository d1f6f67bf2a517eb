package stage

import (
	"fmt"
	"strings"
	"testing"

	"github.com/selfalign/selfalign/internal/dataset"
)

func (b *bench) prompts(dir string, n, bits int) dataset.Ref {
	b.t.Helper()
	parts := make([][]dataset.Prompt, 1<<bits)
	for i := range n {
		p := dataset.Prompt{Instruction: fmt.Sprintf("Tell me about matter %d.", i), Output: "a secret reference", Source: "test", Document: fmt.Sprint(i)}
		if i%3 == 0 {
			p.System = "Be brief."
		}
		p.ID = dataset.PromptIDOf(p.System, p.Instruction)
		part := dataset.PartitionOf(p.ID, bits)
		parts[part] = append(parts[part], p)
	}
	for part, rows := range parts {
		if _, err := dataset.WritePartition(b.t.Context(), b.st, dir, bits, part, rows, nil, dataset.Receipt{Input: int64(len(rows))}); err != nil {
			b.t.Fatal(err)
		}
	}
	return dataset.Ref{Kind: dataset.KindPrompts, Dir: dir, Bits: bits, Rows: int64(n), Digest: "x"}
}

func (b *bench) respond(in dataset.Ref, output string, samples int) Work {
	w := b.backtranslate(output)
	w.Task, w.Input, w.Samples = TaskRespond, in, samples
	return w
}

func TestSeveralAnswersToAPromptAreRowsOfTheirOwn(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, 0)
	b.ref.answer = func(q question) reply {
		if strings.Contains(q.text, "secret") && !strings.Contains(q.text, "Score:") {
			t.Error("the model saw the answer that came with the prompt")
		}
		if strings.Contains(q.text, "Score:") {
			return reply{}
		}
		switch sum := q.seed % 10; {
		case strings.Contains(q.text, "matter 7.") && sum < 5:
			return reply{text: "cut off in the mid", finish: "length"}
		case strings.Contains(q.text, "matter 8."):
			return reply{status: 400, body: `{"error":{"message":"not allowed","code":"content_filter"}}`}
		case strings.Contains(q.text, "matter 9."):
			return reply{text: " "}
		}
		return reply{text: fmt.Sprintf("Answer %d to %s", q.seed, q.text)}
	}
	const prompts, samples = 40, 3
	w := b.respond(b.prompts("prompts", prompts, 2), "responses", samples)
	var kept, rejected int64
	for p, r := range b.run(w) {
		kept, rejected = kept+r.Receipt.Rows, rejected+r.Receipt.Rejected
		w.Partition = p
		for _, x := range b.rejects(w) {
			want := map[string]string{"matter 7.": "answer_cut", "matter 8.": "content_filter", "matter 9.": "answer_empty"}
			at := strings.TrimPrefix(x.Instruction, "Tell me about ")
			if want[at] != x.Reason {
				t.Errorf("%s is rejected as %s", x.Instruction, x.Reason)
			}
		}
	}
	if kept+rejected != prompts*samples || rejected < 2*samples {
		t.Fatalf("%d kept, %d rejected", kept, rejected)
	}
	rows := rowsOf[dataset.Response](b, w)
	seen := map[string]bool{}
	for _, r := range rows {
		if r.ID != dataset.ResponseID(r.PromptID, int(r.Sample)) || seen[r.ID] || seen[r.Output] || r.Generator != "r1" {
			t.Fatalf("row %+v", r)
		}
		seen[r.ID], seen[r.Output] = true, true
		if (r.System != "") != strings.Contains(r.Output, "Be brief.") {
			t.Fatalf("asked without its system prompt: %+v", r)
		}
	}
	// Fewer samples are the first of more, and cost nothing; a refusal that was not billed is tried again by another dataset.
	before := b.ref.asked()
	fewer := w
	fewer.Output, fewer.Samples = "fewer", 1
	b.run(fewer)
	for _, r := range rowsOf[dataset.Response](b, fewer) {
		if !seen[r.Output] || r.ID != r.PromptID {
			t.Fatalf("row %+v", r)
		}
	}
	if n := b.ref.asked() - before; n > 1 {
		t.Fatalf("%d questions asked again", n)
	}
	// Ratings keep the ids of what they rate.
	judge := b.rate("responses", "ratings")
	judge.Input.Kind, judge.Input.Bits = dataset.KindResponses, 2
	b.run(judge)
	ratings := rowsOf[dataset.Rating](b, judge)
	if len(ratings) != len(rows) {
		t.Fatalf("%d ratings of %d responses", len(ratings), len(rows))
	}
	for i, r := range ratings {
		if r.ID != rows[i].ID || r.Output != rows[i].Output || r.Generator != "r1" {
			t.Fatalf("rating %+v of %+v", r, rows[i])
		}
	}
}

// TestTruncatedAnswersAreKeptWhereWanted asks once for what ends at max_tokens, and uses the answers that a run before had rejected.
func TestTruncatedAnswersAreKeptWhereWanted(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, 0)
	b.ref.answer = func(question) reply { return reply{text: "cut off in the mid", finish: "length"} }
	in := b.prompts("prompts", 10, 0)
	strict := b.respond(in, "strict", 1)
	strict.Attempts = 3
	if r := b.run(strict)[0]; r.Receipt.Rejected != 10 || b.ref.asked() != 30 {
		t.Fatalf("%+v, asked %d times", r.Receipt, b.ref.asked())
	}
	kept := strict
	kept.Output, kept.KeepCut = "kept", true
	if r := b.run(kept)[0]; r.Receipt.Rows != 10 || b.ref.asked() != 30 {
		t.Fatalf("%+v, asked %d times", r.Receipt, b.ref.asked())
	}
	if Scope(strict) != Scope(kept) || Fingerprint(strict) == Fingerprint(kept) {
		t.Error("what is asked is the same, what becomes of it is not")
	}
}
