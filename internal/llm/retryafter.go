package llm

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// maxPause bounds what an endpoint may ask for.
const maxPause = 24 * time.Hour

// retryAfter returns how long a refusal asks to wait, 0 where it does not say: the headers retry-after-ms (Azure, OpenAI) and
// Retry-After (seconds, also with decimals, or a date), else "try again in 1.2s" in the message, as OpenAI writes it.
func retryAfter(h http.Header, message string, now time.Time) time.Duration {
	if ms, err := strconv.ParseFloat(strings.TrimSpace(h.Get("Retry-After-Ms")), 64); err == nil {
		return pauseOf(ms * float64(time.Millisecond))
	}
	v := strings.TrimSpace(h.Get("Retry-After"))
	if s, err := strconv.ParseFloat(v, 64); err == nil {
		return pauseOf(s * float64(time.Second))
	}
	if at, err := http.ParseTime(v); err == nil {
		return pauseOf(float64(at.Sub(now)))
	}
	if m := tryAgain.FindStringSubmatch(message); m != nil {
		if d, err := time.ParseDuration(m[1]); err == nil {
			return pauseOf(float64(d))
		}
	}
	return 0
}

func pauseOf(ns float64) time.Duration {
	if !(ns > 0) { // also NaN
		return 0
	}
	return time.Duration(min(ns, float64(maxPause)))
}

var tryAgain = regexp.MustCompile(`(?i)try again in ((?:\d{1,9}(?:\.\d{1,9})?(?:h|ms|m|s)){1,4})`)
