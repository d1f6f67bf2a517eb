package dataset

import (
	"crypto/sha256"
	"encoding/binary"
)

// HeldOut reports whether a row is among the share that is not trained on. It goes by the first part of the row's id, which
// answers to one prompt share, so a row is on one side for good, whatever set it is in; a larger share holds what a smaller one did.
func HeldOut(id string, share float64) bool {
	if share <= 0 {
		return false
	}
	sum := sha256.Sum256([]byte("selfalign/split/1\x00" + id[:min(len(id), 8)]))
	return float64(binary.BigEndian.Uint32(sum[:4]))/(1<<32) < share
}
