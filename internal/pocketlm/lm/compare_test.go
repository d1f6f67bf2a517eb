package lm

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func comparePrompt(inst, first, second string) []Message {
	return []Message{{"system", "You compare replies."}, {"user", "Which is better?\n\n<question>\n" + inst + "\n</question>\n\n<first>\n" + first +
		"\n</first>\n\n<second>\n" + second + "\n</second>\n\nThink, then end with one line, where <x> is first, second or tie:\nVerdict: <x>"}}
}

// prefers returns 1 for the first answer, −1 for the second and 0 for neither.
func prefers(m *Model, inst, first, second string) int {
	text := m.Answer(comparePrompt(inst, first, second), Format{}).Draw(Sampling{Seed: [2]uint64{3, 1}}).Text
	switch _, word, _ := strings.Cut(text, "\nVerdict: "); word {
	case "first":
		return 1
	case "second":
		return -1
	}
	return 0
}

// TestComparisons has models choose between an answer and that to another question, both held out, in both orders.
func TestComparisons(t *testing.T) {
	t.Parallel()
	good := rows(t, "pairs.jsonl")
	half := len(good) / 2
	trained, base := Fit("m", forward(good[:half]), FitOptions{}), Base()
	right := func(m *Model) (share float64) {
		n := 0
		for i, g := range good[half:] {
			other := good[half+(i+1)%(len(good)-half)].Output
			if prefers(m, g.Instruction, g.Output, other) == 1 && prefers(m, g.Instruction, other, g.Output) == -1 {
				n++
			}
		}
		return float64(n) / float64(len(good)-half)
	}
	require.Greater(t, right(trained), 0.6, "a trained model tells the answer to a question from another's, whatever the order")
	require.Less(t, right(base), 0.3, "the untrained model does not")
	ties := 0
	for i, g := range good[half:] {
		other := good[half+(i+1)%(len(good)-half)].Output
		forward, backward := prefers(trained, g.Instruction, g.Output, other), prefers(trained, g.Instruction, other, g.Output)
		require.Equal(t, forward, -backward, "what stands first has no say")
		if forward == 0 {
			ties++
		}
	}
	require.Less(t, ties, (len(good)-half)/3, "it has an opinion")
	g := good[half]
	require.Zero(t, prefers(trained, g.Instruction, g.Output, g.Output), "equal answers are equal")
}
