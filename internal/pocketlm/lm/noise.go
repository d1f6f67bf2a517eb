package lm

import (
	"embed"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
)

// pretrainFS holds lines as they stand on web pages that nobody wrote as an answer: the base model has read these and
// nothing else. {t} stands for the topic of the page.
//
//go:embed pretrain/*.txt pretrain/article.lst pretrain/verbs.list
var pretrainFS embed.FS

var pretrain = sync.OnceValue(func() [][]string {
	entries, err := pretrainFS.ReadDir("pretrain")
	if err != nil {
		panic(err) // embedded
	}
	var kinds [][]string
	for _, e := range entries { // sorted by name
		if path.Ext(e.Name()) != ".txt" {
			continue
		}
		b, err := pretrainFS.ReadFile(path.Join("pretrain", e.Name()))
		if err != nil {
			panic(err)
		}
		kinds = append(kinds, strings.Split(strings.TrimSpace(string(b)), "\n"))
	}
	return kinds
})

// baseVerbs are the verbs that the base model knows.
var baseVerbs = sync.OnceValue(func() map[string]bool {
	b, err := pretrainFS.ReadFile("pretrain/verbs.list")
	if err != nil {
		panic(err)
	}
	return wordSet(string(b))
})

// articleLines are lines of decent articles: written for readers, not as an answer to anybody.
var articleLines = sync.OnceValue(func() []string {
	b, err := pretrainFS.ReadFile("pretrain/article.lst")
	if err != nil {
		panic(err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
})

// article writes a stretch of an article about a topic, with sentences of a true output in it: decent, yet not an answer.
func article(topic, text string, rng *rand.Rand) string {
	var b strings.Builder
	lines := articleLines()
	own := sentencesOf(text)
	for i := range 6 + rng.IntN(8) {
		line := strings.ReplaceAll(lines[rng.IntN(len(lines))], "{t}", topic)
		if len(own) > 0 && rng.IntN(3) == 0 {
			_, _, line = listMark(own[rng.IntN(len(own))])
			line = strings.ReplaceAll(line, "**", "")
		}
		b.WriteString(line)
		if i%4 == 3 {
			b.WriteString("\n\n")
		} else {
			b.WriteString(" ")
		}
	}
	return strings.TrimSpace(b.String())
}

// page writes a web page of the kind that the base model was pretrained on, about a topic.
func page(topic string, lines int, rng *rand.Rand) string {
	kinds := pretrain()
	main := kinds[rng.IntN(len(kinds))]
	var b strings.Builder
	for i := range lines {
		from := main
		if rng.IntN(4) == 0 {
			from = kinds[rng.IntN(len(kinds))]
		}
		line := strings.ReplaceAll(from[rng.IntN(len(from))], "{t}", topic)
		b.WriteString(line)
		if i%4 == 3 || strings.Contains(line, "|") || !strings.ContainsAny(line[len(line)-1:], ".!?") {
			b.WriteString("\n")
		} else {
			b.WriteString(" ")
		}
	}
	return strings.TrimSpace(b.String())
}

// contrast is something the model must learn to tell from its training pairs (noise-contrastive estimation): target is
// how much of an answer it still is, from 0 to 1.
type contrast struct {
	inst, out int     // examples whose instruction and output are meant
	text      string  // replaces the output if not empty
	target    float64 // 1 for the true pair
}

// contrastsOf makes the noise for example i: an output of another example, a page and an article about the same
// topic, the output as an excerpt from a page (cut at both ends, with foreign lines), and its tail alone.
// The other example is one of peers, which are held out together with i: else its output would be known as a true one.
func contrastsOf(ex []Example, i int, peers []int, topic string, rng *rand.Rand) []contrast {
	out := []contrast{{inst: i, out: i, target: 1}}
	for range 3 {
		if j := peers[rng.IntN(len(peers))]; ex[j].Assistant != ex[i].Assistant {
			out = append(out, contrast{inst: i, out: j, target: 0})
			break
		}
	}
	out = append(out,
		contrast{inst: i, text: page(topic, 4+rng.IntN(8), rng), target: 0},
		contrast{inst: i, text: article(topic, ex[i].Assistant, rng), target: 0.15},
		contrast{inst: i, text: excerpt(ex[i].Assistant, topic, rng), target: 0.35},
	)
	if tail := cutHead(ex[i].Assistant, rng); tail != "" {
		out = append(out, contrast{inst: i, text: tail, target: 0.5})
	}
	return out
}

// excerpt puts foreign lines between the sentences of a text: as many as a third of it.
func excerpt(text, topic string, rng *rand.Rand) string {
	lines := strings.Split(text, "\n")
	n := 1 + len(sentencesOf(text))/3
	for range n {
		at := rng.IntN(len(lines) + 1)
		lines = append(lines[:at:at], append([]string{page(topic, 1, rng)}, lines[at:]...)...)
	}
	return strings.Join(lines, "\n")
}

// cutHead is the last half or so of a text of four sentences or more.
func cutHead(text string, rng *rand.Rand) string {
	s := sentencesOf(text)
	if len(s) < 4 {
		return ""
	}
	from := s[len(s)/3+rng.IntN(len(s)/3)]
	if i := strings.Index(text, from); i > 0 {
		return text[i:]
	}
	return ""
}
