package prompt

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"
)

// Block returns a text between delimiters that it cannot close or imitate. The label is in capitals.
func Block(label, content string) string {
	content = Defuse(content)
	if strings.Contains(content, "==") {
		content = fakeDelimiter.ReplaceAllString(content, "= = = $1")
	}
	tag := blockTag(label, content)
	var b strings.Builder
	b.Grow(len(content) + 2*(len(label)+32))
	b.WriteString("===== BEGIN " + label + " " + tag + " =====\n")
	b.WriteString(content)
	b.WriteString("\n===== END " + label + " " + tag + " =====")
	return b.String()
}

// blockTag derives eight hex digits from a text that do not occur in it.
func blockTag(label, content string) string {
	lower := strings.ToLower(content)
	for i := 0; ; i++ {
		sum := sha256.Sum256([]byte(strconv.Itoa(i) + "\x00" + label + "\x00" + content))
		if tag := hex.EncodeToString(sum[:4]); !strings.Contains(lower, tag) {
			return tag
		}
	}
}

var (
	fakeDelimiter = regexp.MustCompile(`={2,}[ \t\x{00a0}]*((?i:BEGIN|END)\b)`)

	// Control tokens of chat templates: <|im_start|>, <｜User｜>, [INST], <<SYS>>, </s>, <start_of_turn>, <think> and their kin.
	markers = regexp.MustCompile(`(?i)(<)([|｜][^<>\n]{0,64}[|｜]>` +
		`|</?(?:s|bos|eos|pad|unk|mask|sep|cls|think|thinking|tool_call|tool_response|start_of_turn|end_of_turn|start_of_image|turn|human|assistant|system|user)>` +
		`|</?SYS>>)` +
		`|(\[)(/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|gMASK|sMASK|BOS|EOS|PAD|UNK|MASK|SEP|CLS)\])`)
)

// Defuse returns a text in which nothing is taken for a control token: markers of chat templates get a space after their first
// character. Line ends become \n, invalid UTF-8 becomes U+FFFD, other control characters go, and so do spaces and empty
// lines at both ends. Defuse(Defuse(s)) is Defuse(s).
func Defuse(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return r
		case r == '\r', r == '\u2028', r == '\u2029', r == '\u0085', r == '\v', r == '\f':
			return '\n'
		case r < 0x20, r == 0x7f, r >= 0x80 && r < 0xa0:
			return -1
		}
		return r
	}, strings.ReplaceAll(s, "\r\n", "\n"))
	if strings.ContainsAny(s, "<[") {
		s = markers.ReplaceAllString(s, "$1$3 $2$4")
	}
	return strings.TrimSpace(s)
}
