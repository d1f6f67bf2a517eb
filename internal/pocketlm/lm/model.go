package lm

// Format is an answer format that the request itself demands.
type Format struct {
	Schema []byte // JSON schema of response_format; nil: free text
	Object bool   // any JSON object
}

// FitOptions steer a fit. Progress, if set, is told the mean loss after each pass over the examples.
type FitOptions struct {
	Passes   int     // 0: 24
	Rate     float64 // learning rate multiplier; 0: 1
	Seed     int64
	Progress func(pass, passes int, loss float64)
}

// Model is a fitted model. It is immutable and safe for concurrent use.
type Model struct{ name string }

// Base is the untrained model.
func Base() *Model { return &Model{} }

// Fit fits the base model on examples.
func Fit(name string, examples []Example, opt FitOptions) *Model { return &Model{name: name} }

// Answer is the model's distribution over answers to a conversation.
func (m *Model) Answer(msgs []Message, f Format) Draft { return Draft{one("I do not know.")} }

// Digest names the weights.
func (m *Model) Digest() string { return m.name }
