package corpus

import (
	"unicode/utf8"

	"github.com/selfalign/selfalign/internal/dataset"
)

// Tally counts the rows of one source and keeps examples of what was turned away.
func (it Item) Tally(t *dataset.Tally, examples dataset.Examples) {
	if it.First {
		t.Documents++
	}
	switch {
	case it.Segment != nil:
		t.Kept(utf8.RuneCountInString(it.Segment.Text), it.Masked)
	case it.Seed != nil:
		t.Kept(utf8.RuneCountInString(it.Seed.Output), nil)
	case it.Reject != nil:
		t.Turned(it.Reject.Reason, it.Whole, it.Sets)
		if examples != nil {
			examples.Add(*it.Reject)
		}
	}
}
