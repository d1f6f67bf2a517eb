package activities

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
)

// A row is in the training file or in the validation file, for good; without a share there is one file, as ever.
func TestExportHoldsRowsOut(t *testing.T) {
	t.Parallel()
	sets := &Sets{Store: s3test.Store(t)}
	seeds := writeOne(t, sets.Store, dataset.KindSeeds, "seeds", seedRows(60), dataset.Receipt{})
	ratings := writeOne(t, sets.Store, dataset.KindRatings, "ratings", ratingRows(5, 5), dataset.Receipt{})
	ref := selectAll(t, sets, SelectWork{Seeds: seeds, Ratings: ratings, Threshold: 4.5, Iteration: 1, Output: "out", Bits: 1})
	env := activityEnv(t, sets)
	export := func(share float64) (Exported, [2]map[string]bool) {
		t.Helper()
		value, err := env.ExecuteActivity("ExportTraining", ExportInput{Training: ref, Key: "train/m1.jsonl", Share: share})
		var out Exported
		if err != nil || value.Get(&out) != nil {
			t.Fatal(err)
		}
		var sides [2]map[string]bool
		for i, key := range []string{out.Key, out.Validation} {
			sides[i] = map[string]bool{}
			if key == "" {
				continue
			}
			raw, err := sets.Store.Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			for line := range bytes.Lines(raw) {
				var e chatExample
				if err := json.Unmarshal(line, &e); err != nil {
					t.Fatal(err)
				}
				sides[i][e.Messages[1].Content] = true
			}
		}
		return out, sides
	}
	whole, sides := export(0)
	if whole.Examples != 62 || whole.Validation != "" || len(sides[0]) != 62 {
		t.Errorf("%+v", whole)
	}
	cut, sides := export(0.3)
	again, _ := export(0.3)
	if cut != again || cut.Digest == whole.Digest || !strings.HasSuffix(cut.Validation, "m1-validation.jsonl") {
		t.Errorf("%+v, then %+v", cut, again)
	}
	if int(cut.Examples) != len(sides[0]) || len(sides[0])+len(sides[1]) != 62 || len(sides[1]) < 5 || len(sides[1]) > 35 {
		t.Errorf("%d and %d rows", len(sides[0]), len(sides[1]))
	}
	for row := range sides[1] {
		if sides[0][row] {
			t.Errorf("%q is on both sides", row)
		}
	}
}
