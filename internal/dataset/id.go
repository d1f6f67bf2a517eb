package dataset

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"
	"sync"
)

const (
	idBytes = 16
	idChars = 2 * idBytes

	// MaxBits bounds how finely a dataset can be cut: 2^20 partitions of 4,096 rows are 4 billion rows.
	MaxBits = 20
	// DefaultRowsPerPartition is the most rows a partition has on average.
	DefaultRowsPerPartition = 4096
)

// SegmentID returns the id of a segment: the digest of its text.
func SegmentID(text string) string { return contentID("segment", text) }

// PairID returns the id of a seed pair: the digest of both texts.
func PairID(instruction, output string) string { return contentID("pair", instruction, output) }

// PromptID returns the id of a prompt: the digest of its text. It differs from a segment's of the same text.
func PromptID(text string) string { return contentID("prompt", text) }

// RejectID returns an id for what was turned away before it had one, such as a broken record: the digest of
// where it came from and why it was turned away.
func RejectID(r Reject) string {
	return contentID("reject", r.Stage, r.Reason, r.Source, r.Document, strconv.FormatInt(r.Offset, 10))
}

// contentID hashes a domain and fields, each with its length before it, so that no two lists of fields read the
// same, and keeps the first half.
func contentID(domain string, fields ...string) string {
	buf, _ := messages.Get().(*[]byte)
	m := appendField((*buf)[:0], "selfalign/"+domain+"/1")
	for _, f := range fields {
		m = appendField(m, f)
	}
	sum := sha256.Sum256(m)
	if cap(m) <= maxMessage {
		*buf = m
		messages.Put(buf)
	}
	return hex.EncodeToString(sum[:idBytes])
}

// messages are what ids are digests of: each is written into the memory of one before.
var messages = sync.Pool{New: func() any { return new([]byte) }}

const maxMessage = 1 << 20

func appendField(m []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint64(m, uint64(len(s))), s...)
}

func hashString(h hash.Hash, s string) { h.Write(appendField(nil, s)) }

// ValidID reports whether id has the shape of a row id: 32 lower-case hexadecimal characters.
func ValidID(id string) bool {
	if len(id) != idChars {
		return false
	}
	for i := range len(id) {
		if hexValue(id[i]) < 0 {
			return false
		}
	}
	return true
}

// PartitionOf returns the partition, out of 2^bits, in which a row lives: the first bits bits of its id. It
// returns -1 for what is no id and for bits outside 0 to MaxBits.
func PartitionOf(id string, bits int) int {
	if !ValidID(id) || bits < 0 || bits > MaxBits {
		return -1
	}
	return prefixOf(id) >> (32 - bits)
}

// prefixOf returns the first 32 bits of a valid id.
func prefixOf(id string) int {
	v := 0
	for i := range 8 {
		v = v<<4 | hexValue(id[i])
	}
	return v
}

func hexValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// idRange returns the smallest id of partition part of 2^bits and the smallest one behind it, "" for none.
func idRange(bits, part int) (from, to string) {
	const zeros = "000000000000000000000000"
	bound := func(p int) string { return fmt.Sprintf("%08x", uint64(p)<<(32-bits)) + zeros }
	if part+1 < 1<<bits {
		to = bound(part + 1)
	}
	return bound(part), to
}

// BitsFor returns the smallest number of bits b, at least minBits, with at most rowsPerPartition rows in each of
// 2^b partitions on average. rowsPerPartition ≤ 0 means DefaultRowsPerPartition. The result is at most MaxBits.
func BitsFor(rows int64, rowsPerPartition int, minBits int) int {
	if rowsPerPartition <= 0 {
		rowsPerPartition = DefaultRowsPerPartition
	}
	bits := min(max(minBits, 0), MaxBits)
	for bits < MaxBits && rows>>bits > int64(rowsPerPartition) {
		bits++
	}
	// The shift rounds down: one row over the limit needs one bit more.
	if bits < MaxBits && rows > int64(rowsPerPartition)<<bits {
		bits++
	}
	return bits
}

func checkPart(bits, part int) error {
	if bits < 0 || bits > MaxBits {
		return fmt.Errorf("%d bits are outside 0 to %d", bits, MaxBits)
	}
	if part < 0 || part >= 1<<bits {
		return fmt.Errorf("partition %d is outside 0 to %d", part, 1<<bits-1)
	}
	return nil
}

// PartKey returns the key of a partition's kept rows.
func PartKey(dir string, part int) string { return fmt.Sprintf("%s/part-%05d.parquet", dir, part) }

// RejectedKey returns the key of the rows that a partition turned away. It carries the start of their digest
// (Receipt.RejectedDigest): two attempts that differ in what they turn away write two objects, and the receipt
// of the one that committed names its own.
func RejectedKey(dir string, part int, digest string) string {
	return fmt.Sprintf("%s/rejected/part-%05d-%s.parquet", dir, part, digest[:min(len(digest), 12)])
}

func manifestKey(dir string) string { return dir + "/manifest.json" }

func rangeKey(dir string, from, to int) string {
	return fmt.Sprintf("%s/_ranges/%05d-%05d.json", dir, from, to)
}
