package prompt

import (
	"errors"
	"strings"
	"testing"
)

func TestParseInstruction(t *testing.T) {
	t.Parallel()
	const q = "How do bees find their way home?"
	for _, answer := range []string{
		q, "  " + q + "\n", `"` + q + `"`, "“" + q + "”", "Instruction: " + q, "**Instruction:** " + q, "### Instruction:\n" + q, "instruction:\n\n\"" + q + "\"",
		"Prompt: " + q, "Question: " + q, "User: " + q, "Sure! Here is the instruction:\n\n" + q, "Here's a possible prompt that the text answers:\n" + q,
		"Here is the instruction:\n**Instruction:** \"" + q + "\"", "```\n" + q + "\n```", "<think>hm</think>\n" + q, q + "</s>", q + "<|im_end|>", q + "\n<|eot_id|></s>",
		"Instruction: " + q + "\n\nOutput: They look at the sun.", "Instruction: " + q + "\n### Response:\nThey", "\ufeff" + q, "Certainly. Here is the message:\n" + q,
	} {
		if got, err := ParseInstruction(answer); err != nil || got != q {
			t.Errorf("ParseInstruction(%q) = %q, %v", answer, got, err)
		}
	}
	for _, kept := range []string{
		"Here is a message from my boss: \"Come early.\" Reply to it.", "Translate \"cat\" and \"dog\"", "\"Yes\" or \"no\"?", "I'm sorry for my dog. Write a poem about it.",
		"Write a letter that begins with: I'm sorry, but I cannot come.", "I cannot open my email. What should I do?", "As an AI researcher, what should I read?",
		"Explain this code:\n```go\nx := 1\n```", "What does \"Output: 5\" mean?\nOutput: 5", "Unfortunately, I lost my keys. Help!", "I can't sleep. What helps?",
		"Here are three sentences. Put them in order:\n1. a\n2. b\n3. c", "Score: 5", "Answer: what?", "Is 5 < 6 and [INST] a tag?",
	} {
		if got, err := ParseInstruction(kept); err != nil || got != kept {
			t.Errorf("ParseInstruction(%q) = %q, %v", kept, got, err)
		}
	}
	for answer, want := range map[string]error{
		"": ErrEmpty, " \n": ErrEmpty, "Instruction:": nil, `""`: ErrEmpty, "```\n```": ErrEmpty, "...": ErrEmpty, "**": ErrEmpty, "</s>": ErrEmpty, "<think>hm</think>": ErrEmpty, "<think>hm": ErrEmpty,
		"I'm sorry, but I can't help with that.": ErrRefusal, "I’m sorry, I cannot assist": ErrRefusal, "Sorry, but I can't do that": ErrRefusal, "I cannot assist with that request.": ErrRefusal,
		"I am unable to determine an instruction.": ErrRefusal, "As an AI language model, I cannot infer it.": ErrRefusal, "I apologize, but I can't": ErrRefusal, "Unfortunately, I cannot provide": ErrRefusal,
		"Instruction: I'm sorry, but I can't": ErrRefusal, strings.Repeat("word ", MaxInstruction): ErrTooLong, strings.Repeat("x", MaxAnswer+1): ErrTooLong,
		"===== BEGIN OUTPUT 7f3a9c21 =====\nx\n===== END OUTPUT 7f3a9c21 =====": ErrEcho,
	} {
		got, err := ParseInstruction(answer)
		if want == nil {
			if err == nil && got == "" {
				t.Errorf("ParseInstruction(%q): empty without an error", answer)
			}
			continue
		}
		if !errors.Is(err, want) {
			t.Errorf("ParseInstruction(%.60q) = %q, %v, want %v", answer, got, err, want)
		}
	}
}

func TestParseResponse(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]string{
		"They look at the sun.":                  "They look at the sun.",
		"<think>\nhm\n</think>\n\nThe sun.":      "The sun.",
		"```go\nx\n```":                          "```go\nx\n```",
		"I'm sorry, but I can't help with that.": "I'm sorry, but I can't help with that.",
		"a\r\nb</s>":                             "a\nb",
		"\"quoted\"":                             "\"quoted\"",
	} {
		if got, err := ParseResponse(answer); err != nil || got != want {
			t.Errorf("ParseResponse(%q) = %q, %v", answer, got, err)
		}
	}
	for answer, want := range map[string]error{"": ErrEmpty, "\x00": ErrEmpty, strings.Repeat("x", MaxResponse+1): ErrTooLong} {
		if _, err := ParseResponse(answer); !errors.Is(err, want) {
			t.Errorf("ParseResponse(%.20q): %v, want %v", answer, err, want)
		}
	}
}

func FuzzParseInstruction(f *testing.F) {
	for _, s := range []string{"", "Instruction: x", "Here is the instruction:\n\"x\"", "```\nx\n```", "<think>", "I'm sorry, but", "a</s></s>", "\xff\"", "“”", "''''"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		got, err := ParseInstruction(answer)
		if err == nil && (strings.TrimSpace(got) != got || got == "" || len(got) > MaxInstruction || strings.ToValidUTF8(got, "") != got) {
			t.Fatalf("ParseInstruction(%q) = %q", answer, got)
		}
		if err != nil && got != "" {
			t.Fatalf("text beside an error: %q", got)
		}
	})
}

func FuzzParseResponse(f *testing.F) {
	f.Add("<think>a</think>b</s>")
	f.Add("\x00\r")
	f.Fuzz(func(t *testing.T, answer string) {
		got, err := ParseResponse(answer)
		if err == nil && (strings.TrimSpace(got) != got || got == "" || len(got) > MaxResponse) {
			t.Fatalf("ParseResponse(%q) = %q", answer, got)
		}
	})
}
