package llm

import (
	"math"
	"sync"
)

// reckoning guesses how many tokens a call takes, and learns from what endpoints report.
type reckoning struct {
	mu       sync.Mutex
	perByte  float64 // prompt tokens per byte
	answered float64 // mean tokens of an answer
}

const (
	firstPerByte = 0.25
	firstAnswer  = 256.0
	learning     = 0.05
)

func (r *reckoning) need(promptBytes, maxTokens int) float64 {
	r.mu.Lock()
	per, answer := r.rate()
	r.mu.Unlock()
	if maxTokens > 0 {
		answer = math.Min(answer, float64(maxTokens))
	}
	return math.Ceil(float64(promptBytes)*per + answer)
}

func (r *reckoning) rate() (per, answer float64) {
	if r.perByte == 0 {
		return firstPerByte, firstAnswer
	}
	return r.perByte, r.answered
}

func (r *reckoning) guess(promptBytes, textBytes int) Usage {
	r.mu.Lock()
	per, _ := r.rate()
	r.mu.Unlock()
	return Usage{
		PromptTokens:     int64(math.Ceil(float64(promptBytes) * per)),
		CompletionTokens: int64(math.Ceil(float64(textBytes) * per)),
	}
}

func (r *reckoning) learn(promptBytes int, u Usage) {
	if promptBytes == 0 || u.PromptTokens <= 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	per, answer := r.rate()
	seen := math.Min(2, float64(u.PromptTokens)/float64(promptBytes))
	r.perByte = per + learning*(seen-per)
	r.answered = answer + learning*(float64(u.CompletionTokens)-answer)
}
