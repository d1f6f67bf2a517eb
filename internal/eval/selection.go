package eval

import "math"

// Labelled is a pair that people called good or bad, and what a judge scored it.
type Labelled struct {
	Good  bool
	Rated bool // false: the judge gave no readable score, so the pair is not selected
	Score float64
}

// Share is an estimate from 0 to 1 with its 95 % interval.
type Share struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// Selection is how well a threshold on a judge's scores picks the good pairs out of a labelled set (table 6 of the paper: a set of 250
// with about 20 % good ones).
type Selection struct {
	N         int64   `json:"n"`
	Good      int64   `json:"good"`  // labelled good
	Rated     int64   `json:"rated"` // with a readable score
	Selected  int64   `json:"selected"`
	True      int64   `json:"true"` // selected and good
	Threshold float64 `json:"threshold"`
	Precision Share   `json:"precision"` // True / Selected; Wilson's interval
	Recall    Share   `json:"recall"`    // True / Good; Wilson's interval
	F1        Share   `json:"f1"`        // harmonic mean of both; bootstrap interval over the set
	AUC       float64 `json:"auc"`       // chance that a good pair is scored above a bad one, of those rated
	// Agreement of being selected with being good.
	Agreement Agreement `json:"agreement"`
	// Order is the share of pairs of pairs, one good and one bad, that the scores put into the right order; those level count half.
	Order float64 `json:"order"`
}

// Select measures a threshold on a labelled set.
func Select(set []Labelled, threshold float64) Selection {
	s := Selection{N: int64(len(set)), Threshold: threshold}
	picked, labels := make([]int, len(set)), make([]int, len(set))
	scores, truth := make([]float64, len(set)), make([]float64, len(set))
	var good, bad []float64
	for i, l := range set {
		if l.Rated {
			s.Rated++
			scores[i] = l.Score
			if l.Good {
				good = append(good, l.Score)
			} else {
				bad = append(bad, l.Score)
			}
			if l.Score >= threshold {
				s.Selected++
				picked[i] = 1
			}
		}
		if l.Good {
			s.Good++
			labels[i], truth[i] = 1, 1
			s.True += int64(picked[i])
		}
	}
	s.AUC = AUC(good, bad)
	s.Agreement = Agree(picked, labels)
	s.Order, _ = PairwiseAgreement(scores, truth)
	s.Precision = share(s.True, s.Selected)
	s.Recall = share(s.True, s.Good)
	s.F1.Value = f1(s.True, s.Selected, s.Good)
	if len(set) > 0 {
		s.F1.Low, s.F1.High = bootstrap(len(set), func(pick func() int) float64 {
			var both, selected, positive int64
			for range set {
				i := pick()
				selected += int64(picked[i])
				positive += int64(labels[i])
				both += int64(picked[i] * labels[i])
			}
			return f1(both, selected, positive)
		})
	}
	return s
}

func share(k, n int64) Share {
	out := Share{}
	if n > 0 {
		out.Value = float64(k) / float64(n)
	}
	out.Low, out.High = wilson(k, n)
	return out
}

func f1(both, selected, positive int64) float64 {
	if selected+positive == 0 {
		return 0
	}
	return 2 * float64(both) / float64(selected+positive)
}

// Drift is how the curated set changed from one iteration to the next.
type Drift struct {
	From    int     `json:"from"` // iteration
	To      int     `json:"to"`
	Kept    int64   `json:"kept"`    // rows in both
	In      int64   `json:"in"`      // rows that came in
	Out     int64   `json:"out"`     // rows that went out
	Jaccard float64 `json:"jaccard"` // kept / (kept + in + out); 1 of two empty sets
	Key     string  `json:"key"`     // object with examples: a DriftExamples
}

// DriftExamples are the first rows by id that came in or went out, cut to be read.
type DriftExamples struct {
	Drift
	Entered []DriftRow `json:"entered"`
	Left    []DriftRow `json:"left"`
}

// DriftRow is a row that came in or went out. A score is 0 where the row was not selected.
type DriftRow struct {
	ID          string  `json:"id"`
	Instruction string  `json:"instruction"`
	Output      string  `json:"output"`
	Before      float64 `json:"before"` // score
	After       float64 `json:"after"`
}

// Similarity returns the Jaccard index of two sets with so many members in both and in one alone.
func Similarity(kept, in, out int64) float64 {
	if kept+in+out == 0 {
		return 1
	}
	return math.Round(1e6*float64(kept)/float64(kept+in+out)) / 1e6
}
