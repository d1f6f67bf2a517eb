package prompt

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseRatingValid(t *testing.T) {
	t.Parallel()
	lines := map[string]float64{
		"Score: 1": 1, "Score: 2": 2, "Score: 3": 3, "Score: 4": 4, "Score: 5": 5,
		"Score: 4.5": 4.5, "Score: 1.0": 1, "Score: 4.75": 4.75, "Score: 5.0": 5, "Score: 5.": 5, "Score: 4.5.": 4.5,
		"score: 4": 4, "SCORE: 4": 4, "Score:4": 4, "Score :4": 4, "Score 4": 4, "  Score:   4  ": 4,
		"**Score: 4**": 4, "**Score:** 4": 4, "**Score**: 4": 4, "Score: **4**": 4, "__Score__: 4": 4, "*Score: 4*": 4, "***Score: 4***": 4,
		"### Score: 4": 4, "## Score\n4": 4, "Score:\n4": 4, "**Score:**\n\n**4**": 4, "Score:\n4/5": 4,
		"Rating: 4": 4, "rating: 4.5": 4.5, "Final score: 4": 4, "Final Rating: 4": 4, "Overall score: 3": 3, "My rating: 2": 2, "My final score: 2": 2,
		"The score is 4": 4, "The rating is: 4": 4, "Score = 4": 4, "Score - 4": 4, "Score – 4": 4, "Grade: 3": 3, "Total score: 3 points": 3,
		"Score: 4/5": 4, "Score: 4 / 5": 4, "Score: 4.5/5.0": 4.5, "Score: 4 out of 5": 4, "Score: 4 out of 5.": 4, "Score: 4 of 5": 4, "Score: 4 (out of 5)": 4,
		"Score: 4 points out of 5": 4, "Score: 4 out of 5 stars": 4, "Score: 4 stars": 4, "Score: 4/5!": 4, "Score: 1 point": 1,
		"Score: [4]": 4, "Score: (4)": 4, "Score: {4}": 4, "Score: <4>": 4, `Score: "4"`: 4, "Score: `4`": 4, "`Score: 4`": 4, "[Score: 4]": 0,
		`Score: \boxed{4}`: 4, "Score: [4]/5": 4, "<score>4</score>": 4, "<rating> 4.5 </rating>": 4.5, "| Score | 4 |": 4,
		"Score：4": 4, "Score： ４": 4, "Score: ４．５": 4.5, "Score: ４／５": 4, "Score: ［4］": 4, "Score:\u00a04": 4, "Score:\u200b 4": 4,
		"- Score: 4": 4, "* Score: 4": 4, "6. Score: 4": 4,
		"Score: 4\n```": 4, "```\nScore: 4\n```": 4, "Score: 4\n---": 4, "Score: 4</s>": 4, "Score: 4\n</s>": 4, "Score: 4\n<|im_end|>": 4, "Score: 4\n\n\n": 4,
		"Score: 4 - a good answer": 4, "Score: 4 (very good)": 4, "Score: 4. The answer is good.": 4, "Score: 4, nearly perfect": 4,
		"Score: 3\nScore: 4": 4, "Score: 10\nScore: 4": 4, "Score: 4\r\n": 4, "Score: 4\rScore: 5": 5,
		`{"reason": "fine", "score": 4}`: 4, `{"score": "4.5", "reasoning": "x"}`: 4.5, "```json\n{\"rating\": 5}\n```": 5, `{"Score": 2}`: 2,
		"<think>Score: 1</think>\nScore: 4": 4, "reasoning without opening</think>Score: 4": 4,
	}
	delete(lines, "[Score: 4]")
	for answer, want := range lines {
		for _, before := range []string{"", "It is good.\n\n", "The text says \"Score: 1\".\nScore: 1\nThat is a quote.\n"} {
			if before != "" && (strings.HasPrefix(answer, "{") || strings.HasPrefix(answer, "```json") || strings.Contains(answer, "think>")) {
				continue
			}
			got, err := ParseRating(before + answer)
			if err != nil || got.Score != want {
				t.Errorf("ParseRating(%q) = %v, %v, want %v", before+answer, got.Score, err, want)
			}
			if before == "It is good.\n\n" && !strings.HasPrefix(got.Reason, "It is good.") {
				t.Errorf("ParseRating(%q): reason %q", before+answer, got.Reason)
			}
		}
	}
}

func TestParseRatingInvalid(t *testing.T) {
	t.Parallel()
	table := []struct {
		answer string
		want   error
	}{
		{"", ErrNoScore},
		{"   \n\n ", ErrNoScore},
		{"A fine answer.", ErrNoScore},
		{"4", ErrNoScore},
		{"Score:", ErrNoScore},
		{"Score", ErrNoScore},
		{"Score: 0", ErrOutOfRange},
		{"Score: 0.5", ErrOutOfRange},
		{"Score: 0.99", ErrOutOfRange},
		{"Score: 5.01", ErrOutOfRange},
		{"Score: 6", ErrOutOfRange},
		{"Score: 9", ErrOutOfRange},
		{"Score: 10", ErrOutOfRange},
		{"Score: 10/10", ErrOutOfRange},
		{"Score: 91", ErrOutOfRange},
		{"Score: 1986", ErrOutOfRange},
		{"Score: -4", ErrOutOfRange},
		{"Score -4", ErrOutOfRange},
		{"Score: " + strings.Repeat("9", 400), ErrOutOfRange},
		{"Score: 4-5", ErrAmbiguous},
		{"Score: 4–5", ErrAmbiguous},
		{"Score: 4 to 5", ErrAmbiguous},
		{"Score: 4 or 5", ErrAmbiguous},
		{"Score: 4,5", ErrAmbiguous},
		{"Score: 4 5", ErrAmbiguous},
		{"Score: 4/10", ErrAmbiguous},
		{"Score: 4 out of 10", ErrAmbiguous},
		{"Score: 4%", ErrAmbiguous},
		{"Score: 4+", ErrAmbiguous},
		{"Score: 1e1", ErrAmbiguous},
		{"Score: 4.5.6", ErrAmbiguous},
		{"Score: 4/5/6", ErrAmbiguous},
		{"Score: 3/5 - maybe 4", ErrAmbiguous},
		{"Score: 4, perhaps five", ErrAmbiguous},
		{"Score: 4½", ErrAmbiguous},
		{"Score: 4 Score: 5", ErrAmbiguous},
		{"Score: ~~3~~ 4", ErrAmbiguous},
		{"Score: NaN", ErrNotNumber},
		{"Score: N/A", ErrNotNumber},
		{"Score: none", ErrNotNumber},
		{"Score: <rating>", ErrNotNumber},
		{"Score: [insert number]", ErrNotNumber},
		{"Score: Inf", ErrNotNumber},
		{"Score: ٤", ErrNotNumber},
		{"Score: 4\nScore: 10", ErrOutOfRange},
		{"Score: 4\nScore: 1986", ErrOutOfRange},
		// Quotes are not verdicts.
		{"The document says:\n> Score: 5", ErrNoScore},
		{"The document ends with\n\"Score: 5\"", ErrNoScore},
		{"The document says Score: 5", ErrNoScore},
		{"It contains the line\nScore: 5\nwhich tries to steer me.", ErrNoScore},
		{"Score: 5\n\nIn short, a good answer.", ErrNoScore},
		{"===== BEGIN OUTPUT 7f3a9c21 =====\ntext\nScore: 5", ErrNoScore},
		{"===== BEGIN OUTPUT 7f3a9c21 =====\nScore: 5\n===== END OUTPUT 7f3a9c21 =====", ErrNoScore},
		{"<think>I would say\nScore: 4", ErrNoScore},
		{"<think>Score: 4</think>", ErrNoScore},
		{`{"reason": "no score"}`, ErrNoScore},
		{`{"score": null}`, ErrNotNumber},
		{`{"score": 6}`, ErrOutOfRange},
		{`{"score": [4]}`, nil}, // as [4] on a line
		{`{broken}`, ErrNoScore},
		{strings.Repeat("x", MaxAnswer) + "\nScore: 4", ErrTooLong},
	}
	for _, c := range table {
		r, err := ParseRating(c.answer)
		if !errors.Is(err, c.want) {
			t.Errorf("ParseRating(%.60q) = %v, %v, want %v", c.answer, r, err, c.want)
		}
		if err != nil && len(err.Error()) > 300 {
			t.Errorf("ParseRating(%.60q): long message %q", c.answer, err)
		}
	}
}

// What distilabel 1.5.3 makes of these is noted in the second column of each line's comment.
func TestParseRatingWhereOthersFail(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]any{
		"Fine.\nScore: 4.5":   4.5,           // 4
		"Fine.\nScore: 10":    ErrOutOfRange, // 1
		"Fine.\nScore: 0":     ErrOutOfRange, // 0
		"Fine.\nScore: 9":     ErrOutOfRange, // 9
		"Fine.\n**Score:** 4": 4.0,           // lost
		"Fine.\nscore: 4":     4.0,           // lost
		"The page claims:\nScore: 5\nIt is not.\nScore: 2": 2.0, // 5
	} {
		r, err := ParseRating(answer)
		switch want := want.(type) {
		case float64:
			if err != nil || r.Score != want {
				t.Errorf("ParseRating(%q) = %v, %v, want %v", answer, r.Score, err, want)
			}
		case error:
			if !errors.Is(err, want) {
				t.Errorf("ParseRating(%q) = %v, %v, want %v", answer, r.Score, err, want)
			}
		}
	}
}

func TestReasonIsBoundedAndTrimmed(t *testing.T) {
	t.Parallel()
	r, err := ParseRating("\n\n  " + strings.Repeat("é", MaxReason) + " \n\nScore: 3")
	if err != nil || len(r.Reason) > MaxReason || !strings.HasPrefix(r.Reason, "éé") || strings.ToValidUTF8(r.Reason, "?") != r.Reason {
		t.Fatalf("reason of %d bytes, %v", len(r.Reason), err)
	}
}

// spellings are accepted ways to write a score line; %s is the number.
var spellings = []string{
	"Score: %s", "score: %s", "SCORE:%s", "**Score: %s**", "**Score:** %s", "Rating: %s", "Final score: %s", "Score: %s/5", "Score: %s out of 5",
	"Score: [%s]", "Score: %s.", "Score = %s", "Score: **%s**", "### Score: %s", "Score:\n%s", "Score： %s", "<score>%s</score>", "Score: %s\n```", "Score: (%s)",
	"The score is %s", "Score: %s (good)", "- Score: %s/5.0",
}

func genScore(t *rapid.T) float64 {
	return float64(rapid.IntRange(100, 500).Draw(t, "hundredths")) / 100
}

func TestAnyReasonAnySpelling(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		reason := rapid.OneOf(
			rapid.String(),
			rapid.StringMatching(`([A-Za-z ,.:*#>"0-9]{0,40}\n){0,6}`),
			rapid.SampledFrom([]string{"Score: 5", "Score: 10\nScore: 1986", "\"Score: 1\"", "> Score: 2\n", "Score:", "```\nScore: 5\n```", "{", "Score: 3\n\n---", "[INST] </s> <|im_end|>"}),
		).Draw(t, "reason")
		if strings.HasPrefix(strings.TrimSpace(strings.ToLower(reason)), "<think") || strings.Contains(reason, "=====") {
			t.Skip("thinking and blocks have their own rules") //nolint:forbidigo // another draw, not a skipped test
		}
		want := genScore(t)
		line := fmt.Sprintf(rapid.SampledFrom(spellings).Draw(t, "spelling"), fmt.Sprint(want))
		got, err := ParseRating(reason + "\n\n" + line)
		if err != nil || got.Score != want {
			t.Fatalf("ParseRating(%q) = %v, %v, want %v", reason+"\n\n"+line, got.Score, err, want)
		}
	})
}

func TestOutOfRangeNeverParses(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(rapid.IntRange(-100000, 99), rapid.IntRange(501, 10000000)).Draw(t, "hundredths")
		line := fmt.Sprintf(rapid.SampledFrom(spellings).Draw(t, "spelling"), fmt.Sprint(float64(n)/100))
		if r, err := ParseRating("Score: 4\n" + line); err == nil {
			t.Fatalf("ParseRating(%q) = %v", line, r.Score)
		}
	})
}

func FuzzParseRating(f *testing.F) {
	for _, s := range spellings {
		f.Add("reason\n" + fmt.Sprintf(s, "4.5"))
	}
	for _, s := range []string{"", "Score: 4-5", "Score: 1986", "> Score: 5", `{"score":4}`, "<think>", "Score: \xff4", "===== BEGIN OUTPUT 7f3a9c21 =====\nScore: 5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		r, err := ParseRating(answer)
		if err != nil {
			if r != (Rating{}) {
				t.Fatalf("rating beside an error: %v", r)
			}
			return
		}
		if !(r.Score >= 1 && r.Score <= 5) || len(r.Reason) > MaxReason {
			t.Fatalf("ParseRating(%q) = %+v", answer, r)
		}
		again, err := ParseRating(r.Reason + "\n\nScore: " + fmt.Sprint(r.Score))
		if !strings.Contains(answer, "=====") && !strings.Contains(strings.ToLower(answer), "think") && !strings.Contains(answer, "{") && !strings.Contains(strings.ToLower(answer), "reasoning>") &&
			(err != nil || again.Score != r.Score) {
			t.Fatalf("not stable: %q: %v, %v", answer, again, err)
		}
	})
}
