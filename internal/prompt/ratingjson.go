package prompt

import (
	"encoding/json"
	"errors"
	"regexp"
	"strings"
)

// RatingSchema is the JSON Schema that a judge's answer must follow where an endpoint can hold it to one. The scores are
// listed, since not every endpoint that takes schemas knows bounds.
const RatingSchema = `{"type":"object","properties":{"reason":{"type":"string"},"score":{"type":"number","enum":[1,1.5,2,2.5,3,3.5,4,4.5,5]}},"required":["reason","score"],"additionalProperties":false}`

// tailScore is an object's last field, when that is the score.
var tailScore = regexp.MustCompile("(?is)\"(?:score|rating)\"\\s*:\\s*\"?([^\"{}\\[\\],:]{1,24}?)\"?\\s*,?\\s*\\}[\\s`]*$")

var headReason = regexp.MustCompile(`(?is)"(?:reason|reasoning|explanation)"\s*:\s*"(.*)$`)

// ParseRatingJSON takes the rating out of an answer that should be a JSON object. What ParseRating reads is taken as it
// is, score lines included. Beyond that, the answer may end in the object after other words, and the object may be ill-formed
// (line breaks in a text, a comma too many) as long as the score is its last field.
func ParseRatingJSON(answer string) (Rating, error) {
	r, err := ParseRating(answer)
	if err == nil || !errors.Is(err, ErrNoScore) || len(answer) > MaxAnswer {
		return r, err
	}
	body, thinking := afterThinking(answer)
	if thinking != nil {
		return Rating{}, err
	}
	body = strings.TrimRight(withoutEnd(tidy(body)), "` \n\t")
	if !strings.HasSuffix(body, "}") {
		return Rating{}, err
	}
	// The object that ends the answer begins at one of the last braces.
	at := len(body)
	for range 16 {
		if at = strings.LastIndexByte(body[:at], '{'); at < 0 {
			break
		}
		if json.Valid([]byte(body[at:])) {
			if r, inner := jsonRating(body[at:]); !errors.Is(inner, ErrNoScore) {
				return r, inner
			}
		}
	}
	m := tailScore.FindStringSubmatchIndex(body)
	if m == nil {
		return Rating{}, err
	}
	value, found, inner := scoreLine("Score: " + body[m[2]:m[3]])
	if !found {
		return Rating{}, err
	}
	if inner != nil {
		return Rating{}, inner
	}
	reason := body[:m[0]]
	if h := headReason.FindStringSubmatch(reason); h != nil {
		reason = strings.TrimRight(h[1], "\", \n\t")
	}
	return Rating{Score: value, Reason: reasonOf(reason)}, nil
}
