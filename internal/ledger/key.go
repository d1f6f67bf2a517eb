package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
)

// Key names a question: 32 lower-case hexadecimal characters, the first half of a SHA-256 digest of all that decides
// the answer.
type Key string

// Turn is one message of a question.
type Turn struct{ Role, Content string }

// Question is all that decides an answer.
type Question struct {
	Turns       []Turn
	Revision    string // of the model: a newly trained model under an old name has another one
	Temperature float64
	TopP        float64
	MaxTokens   int
	Sample      int // from 1
	Attempt     int // from 1
}

const keyVersion = "selfalign question 1\n"

// KeyOf returns the question's name. Every field is framed by its length, so different questions have different encodings.
func KeyOf(q Question) Key {
	size := len(keyVersion) + len(q.Revision) + 64
	for _, t := range q.Turns {
		size += len(t.Role) + len(t.Content) + 16
	}
	b := make([]byte, 0, size)
	b = append(b, keyVersion...)
	b = frame(b, q.Revision)
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(q.Temperature+0)) // -0 is 0
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(q.TopP+0))
	for _, n := range [...]int{q.MaxTokens, q.Sample, q.Attempt, len(q.Turns)} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	for _, t := range q.Turns {
		b = frame(b, t.Role)
		b = frame(b, t.Content)
	}
	sum := sha256.Sum256(b)
	return Key(hex.EncodeToString(sum[:16]))
}

func frame(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
	return append(b, s...)
}

// Seed returns a seed for the endpoint's random numbers: from 0 to 2^31-1, the same for the same question.
func (k Key) Seed() int64 {
	sum := sha256.Sum256([]byte("seed " + k))
	return int64(binary.BigEndian.Uint32(sum[:4]) >> 1)
}
