package trainfile

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/selfalign/selfalign/internal/finetune"
)

const good = `{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}`

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, want string }{
		{"good", good + "\n" + good + "\n", ""},
		{"no newline at the end", good, ""},
		{"empty", "", "no examples"},
		{"empty line", good + "\n\n" + good, "line 2: empty"},
		{"role", strings.Replace(good, "user", "robot", 1), `role "robot"`},
		{"no text", strings.Replace(good, `"q"`, `" "`, 1), "message 1 (user): no text"},
		{"null text", strings.Replace(good, `"q"`, `null`, 1), "no text"},
		{"nothing to learn", strings.Replace(good, `"assistant"`, `"user"`, 1), "nothing to learn"},
		{"not UTF-8", strings.Replace(good, `"q"`, "\"\xff\"", 1), "not UTF-8"},
		{"many", strings.Repeat("x\n", 100), "line 5"},
	} {
		n, err := Check(strings.NewReader(c.in))
		if c.want == "" {
			if err != nil || n.Examples < 1 {
				t.Errorf("%s: %+v, %v", c.name, n, err)
			}
			continue
		}
		if finetune.ClassOf(err) != finetune.ClassPermanent || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 2000 {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	endless := io.MultiReader(strings.NewReader("{"), neverNewline{})
	if _, err := Check(endless); finetune.ClassOf(err) != finetune.ClassPermanent || !strings.Contains(err.Error(), "line 1: more than") {
		t.Errorf("%v", err)
	}
}

type neverNewline struct{}

func (neverNewline) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("{\"messages\":[{\"role\":\"user\",\"content\":[]}]}\n\n\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		n, err := Check(bytes.NewReader(raw))
		if (err == nil) != (n.Examples > 0) {
			t.Fatalf("%+v, %v", n, err)
		}
	})
}
