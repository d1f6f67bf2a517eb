package dataset

import (
	"testing"

	"pgregory.net/rapid"
)

func TestResponsesLiveWithTheirPrompt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		prompt := PromptIDOf(rapid.String().Draw(t, "system"), rapid.String().Draw(t, "prompt"))
		bits := rapid.IntRange(0, MaxBits).Draw(t, "bits")
		seen := map[string]bool{}
		for sample := 1; sample <= 5; sample++ {
			id := ResponseID(prompt, sample)
			if !ValidID(id) || PartitionOf(id, bits) != PartitionOf(prompt, bits) || seen[id] || (sample == 1) != (id == prompt) {
				t.Fatalf("answer %d to %s is %s", sample, prompt, id)
			}
			seen[id] = true
		}
	})
	if PromptIDOf("", "x") != PromptID("x") || PromptIDOf("s", "x") == PromptIDOf("", "x") {
		t.Fatal("the system prompt is part of a prompt")
	}
}
