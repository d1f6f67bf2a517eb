package llm

import (
	"slices"
	"strings"
)

// Headers of the turns in a plain prompt.
const (
	plainSystem    = "### System:"
	plainUser      = "### User:"
	plainAssistant = "### Assistant:"
)

// Plain renders a conversation as one prompt, for base models without a chat template (API completions). Each turn is a
// header line, its content and an empty line; the prompt ends with the header of the assistant's turn:
//
//	### System:
//	Answer in the style of an AI Assistant.
//
//	### User:
//	How do bees find their way home?
//
//	### Assistant:
//
// A conversation that ends with an assistant's message is rendered with it and without a further header, so training
// examples are Plain(messages with the answer) and their prompt is Plain(messages without it). A content line that looks
// like a header is indented by one space, so no content can open a turn.
func Plain(messages []Message) string {
	var b strings.Builder
	n := len(plainAssistant) + 1
	for _, m := range messages {
		n += len(m.Content) + 24
	}
	b.Grow(n)
	for i, m := range messages {
		header := plainUser
		switch m.Role {
		case "system", "developer":
			header = plainSystem
		case "assistant":
			header = plainAssistant
		}
		b.WriteString(header)
		b.WriteByte('\n')
		writeTurn(&b, m.Content)
		if m.Role == "assistant" && i == len(messages)-1 {
			return b.String()
		}
		b.WriteString("\n\n")
	}
	b.WriteString(plainAssistant)
	b.WriteByte('\n')
	return b.String()
}

func writeTurn(b *strings.Builder, content string) {
	if !strings.Contains(content, "### ") {
		b.WriteString(content)
		return
	}
	for i, line := range strings.Split(content, "\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		if slices.ContainsFunc([]string{plainSystem, plainUser, plainAssistant}, func(h string) bool { return strings.HasPrefix(line, h) }) {
			b.WriteByte(' ')
		}
		b.WriteString(line)
	}
}

// plainStops adds the header of the user's turn to the stop sequences, since a base model would go on with it.
func plainStops(stop []string) []string {
	own := "\n" + plainUser
	if len(stop) >= maxStops || slices.Contains(stop, own) {
		return stop
	}
	return append(slices.Clone(stop), own)
}
