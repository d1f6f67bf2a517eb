package ledger

import (
	"fmt"
	"strconv"
	"strings"
)

const root = "ledger/"

// kind is what an object is for, and the folder it lies in.
type kind string

// A listing comes in order of names while a book may be compacted: what folds flush objects up must be listed after them, so
// that whoever misses those finds this.
const (
	kindOld   kind = "base" // what kindWhole was called before
	kindLease kind = "lease"
	kindWAL   kind = "wal"
	kindWhole kind = "whole"
)

// shelf is where the entries of one partition lie.
type shelf struct {
	scope      string
	bits, part int
}

func scopeDir(scope string) string { return root + scope + "/" }

func (s shelf) dir() string { return fmt.Sprintf("%s%s/%02d/%05d/", root, s.scope, s.bits, s.part) }

// object names one object of a shelf.
type object struct {
	kind  kind
	epoch int64
	seq   int64 // of a lease: 0
}

func (o object) whole() bool { return o.kind == kindWhole || o.kind == kindOld }

func (s shelf) key(o object) string {
	if o.kind == kindLease {
		return fmt.Sprintf("%slease/%08d.zst", s.dir(), o.epoch)
	}
	return fmt.Sprintf("%s%s/%08d-%06d.zst", s.dir(), o.kind, o.epoch, o.seq)
}

// parse reads the name of an object under the shelf. Foreign objects are not ok.
func (s shelf) parse(key string) (o object, ok bool) {
	name, ok := strings.CutPrefix(key, s.dir())
	if !ok {
		return object{}, false
	}
	folder, name, ok := strings.Cut(name, "/")
	if !ok {
		return object{}, false
	}
	name, ok = strings.CutSuffix(name, ".zst")
	if !ok {
		return object{}, false
	}
	o.kind = kind(folder)
	epoch, seq, numbered := strings.Cut(name, "-")
	var err error
	if o.epoch, err = strconv.ParseInt(epoch, 10, 63); err != nil || o.epoch < 1 {
		return object{}, false
	}
	if numbered {
		if o.seq, err = strconv.ParseInt(seq, 10, 63); err != nil || o.seq < 1 {
			return object{}, false
		}
	}
	ok = (o.kind == kindLease && !numbered) || ((o.kind == kindWAL || o.whole()) && numbered)
	return o, ok && s.key(o) == key
}

// parseShelf reads the shelf of a key under a scope.
func parseShelf(scope, key string) (shelf, bool) {
	rest, ok := strings.CutPrefix(key, scopeDir(scope))
	if !ok {
		return shelf{}, false
	}
	bits, rest, _ := strings.Cut(rest, "/")
	part, _, _ := strings.Cut(rest, "/")
	b, err1 := strconv.Atoi(bits)
	p, err2 := strconv.Atoi(part)
	s := shelf{scope: scope, bits: b, part: p}
	return s, err1 == nil && err2 == nil && b >= 0 && p >= 0 && strings.HasPrefix(key, s.dir())
}

// partOf returns the partition of a row among 2^bits: the first bits of its id.
func partOf(id string, bits int) (int, error) {
	if bits == 0 {
		return 0, nil
	}
	if len(id) < 8 || bits > 32 {
		return 0, fmt.Errorf("row id %q is too short for %d bits", id, bits)
	}
	n, err := strconv.ParseUint(id[:8], 16, 32)
	if err != nil {
		return 0, fmt.Errorf("row id %q is not hexadecimal", id)
	}
	return int(n >> (32 - bits)), nil
}
