// Package origin finds the files that an address names, pins each of them, and opens it again as it was.
package origin

import (
	"cmp"
	"container/heap"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/hub"
	"github.com/selfalign/selfalign/internal/intake"
)

// Bounds of one address.
const (
	MaxFiles  = 2_000_000
	partBytes = 64 << 20 // of a Parquet file that is read in parts, about
	maxParts  = 500
)

// Places are what addresses may lead to. A nil place is one that no address leads to.
type Places struct {
	Store *blob.Store // the run's own
	// Bucket opens another bucket for reading.
	Bucket    func(ctx context.Context, bucket string) (*blob.Store, error)
	Hub       *hub.Client
	Web       *Web
	PathsBase string // before the lines of a paths list
}

// Want is an address and what to make of it.
type Want struct {
	Path     string
	Format   string
	Revision string // Hub
	Config   string // Hub
	Split    string // Hub
	Limit    int    // files at most, chosen evenly by their names; 0: all
	Whole    bool   // no file is read in parts
}

// File is one file as it was found, or a part of it. It can be kept as JSON and holds no secret.
type File struct {
	Name  string `json:"name"` // what rows carry as their source
	Size  int64  `json:"size"` // of the whole file; about, where Guess
	Guess bool   `json:"guess,omitempty"`
	ETag  string `json:"etag,omitempty"` // "" is any

	Bucket string   `json:"bucket,omitempty"`
	Own    bool     `json:"own,omitempty"` // Key is one of the run's store, below its prefix
	Key    string   `json:"key,omitempty"`
	URL    string   `json:"url,omitempty"`
	Hub    *HubFile `json:"hub,omitempty"`

	Part    int    `json:"part,omitempty"`    // from 0
	Parts   int    `json:"parts,omitempty"`   // 0: the file is read whole
	Unseen  bool   `json:"unseen,omitempty"`  // only a list names it: nobody looked whether it is there
	Witness string `json:"witness,omitempty"` // of a list: another file on it, which could be read when the run began
	Wrong   string `json:"wrong,omitempty"`   // a name in a list that leads to nothing that can be read, and why
	Reason  string `json:"reason,omitempty"`  // of Wrong, as of intake.File
}

// HubFile is a file of a commit.
type HubFile struct {
	Repo   string   `json:"repo"`
	Commit string   `json:"commit"`
	File   hub.File `json:"file"`
}

// Bytes is how much of the file is read.
func (f File) Bytes() int64 { return f.Size / int64(max(f.Parts, 1)) }

// Error is a source that a person has to mend: nothing changes by itself.
type Error struct {
	Source  string
	Problem string
	Try     string
	Err     error

	missing bool // the file is not there
}

// Message is the error without the way out.
func (e *Error) Message() string {
	s := "source " + e.Source + ": " + e.Problem
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Error() string { return e.Message() + ". Try: " + e.Try }

func (e *Error) Unwrap() error { return e.Err }

// IsLocal reports whether an address is a path on this machine and none of ours.
func IsLocal(address string) bool { return !strings.Contains(address, "://") }

// List finds the files of an address in the order of their names and pins them. An *Error needs a person.
func (p *Places) List(ctx context.Context, w Want) ([]File, dataset.Origin, error) {
	found := dataset.Origin{Path: public(w.Path), Revision: w.Revision}
	scheme, _, _ := strings.Cut(w.Path, "://")
	var files []File
	var err error
	switch scheme {
	case "s3":
		files, err = p.listS3(ctx, w)
	case "hf":
		files, err = p.listHub(ctx, w, &found)
	case "https":
		files, err = p.listWeb(ctx, w)
	default:
		err = &Error{
			Source: public(w.Path), Problem: "is not in S3, on the Hub or at an https:// address",
			Try: "start runs with the starter, which uploads local files; a worker opens no path that a run names",
		}
	}
	if err != nil {
		return nil, found, err
	}
	files, err = p.expand(ctx, files, w)
	if err != nil {
		return nil, found, err
	}
	digest := sha256.New()
	for _, f := range files {
		found.Files++
		found.Bytes += f.Size
		tag := f.ETag
		if f.Hub != nil {
			tag = f.Hub.Commit
		}
		fmt.Fprintf(digest, "%q %d %q\n", f.Name, f.Size, tag)
	}
	found.Digest = hex.EncodeToString(digest.Sum(nil))
	return parts(files, w), found, nil
}

// expand puts the files of paths lists in the place of the lists, and leaves as many as are wanted.
func (p *Places) expand(ctx context.Context, files []File, w Want) ([]File, error) {
	if !slices.ContainsFunc(files, func(f File) bool { return IsPathsList(f.Name, w.Format) }) {
		return sample(files, w.Limit), nil
	}
	var out []File
	for _, f := range files {
		if !IsPathsList(f.Name, w.Format) {
			out = append(out, f)
			continue
		}
		listed, err := p.Listed(ctx, p.Open(f), w)
		if err != nil {
			return nil, err
		}
		if out = append(out, listed...); len(out) > MaxFiles {
			return nil, tooMany(w.Path)
		}
	}
	return sample(out, w.Limit), nil
}

// parts deals a large Parquet file out to several readers.
func parts(files []File, w Want) []File {
	if w.Whole {
		return files
	}
	var out []File
	for _, f := range files {
		n := int(min((f.Size+partBytes-1)/partBytes, maxParts))
		if n < 2 || f.Guess || f.Wrong != "" || w.Format != corpus.FormatParquet && !strings.EqualFold(path.Ext(f.Name), ".parquet") {
			out = append(out, f)
			continue
		}
		for i := range n {
			f.Part, f.Parts = i, n
			out = append(out, f)
		}
	}
	return out
}

// Open returns a file that List found, to be read as it was then.
func (p *Places) Open(f File) intake.File {
	out := intake.File{Name: f.Name, Part: f.Part, Parts: f.Parts}
	switch {
	case f.Wrong != "":
		out.Wrong, out.Reason = f.Wrong, f.Reason
	case f.Hub != nil:
		p.openHub(f, &out)
	case f.URL != "":
		p.openWeb(f, &out)
	default:
		p.openS3(f, &out)
	}
	if explain := out.Explain; explain != nil && (f.Unseen || f.Witness != "") {
		out.Explain = func(ctx context.Context, err error) error { return p.turn(ctx, f, explain(ctx, err)) }
	}
	return out
}

// sample leaves at most limit files, chosen by digests of their names: which ones does not depend on chance, and more files
// than before keep most of the earlier choice.
func sample(files []File, limit int) []File {
	if limit <= 0 || len(files) <= limit {
		return files
	}
	s := &sampler{limit: limit}
	for _, f := range files {
		s.offer(f)
	}
	return s.files()
}

// sampler keeps those with the smallest digests.
type sampler struct {
	limit int
	kept  []ranked
}

type ranked struct {
	rank [8]byte
	file File
}

func (s *sampler) Len() int           { return len(s.kept) }
func (s *sampler) Less(i, j int) bool { return bytesLess(s.kept[j].rank, s.kept[i].rank) }
func (s *sampler) Swap(i, j int)      { s.kept[i], s.kept[j] = s.kept[j], s.kept[i] }
func (s *sampler) Push(x any)         { s.kept = append(s.kept, x.(ranked)) }
func (s *sampler) Pop() any {
	last := s.kept[len(s.kept)-1]
	s.kept = s.kept[:len(s.kept)-1]
	return last
}

func bytesLess(a, b [8]byte) bool { return slices.Compare(a[:], b[:]) < 0 }

func (s *sampler) offer(f File) {
	sum := sha256.Sum256([]byte(path.Base(f.Name)))
	heap.Push(s, ranked{rank: [8]byte(sum[:8]), file: f})
	if s.limit > 0 && len(s.kept) > s.limit {
		heap.Pop(s)
	}
}

func (s *sampler) files() []File {
	out := make([]File, len(s.kept))
	for i, r := range s.kept {
		out[i] = r.file
	}
	slices.SortFunc(out, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func tooMany(source string) error {
	return &Error{Source: public(source), Problem: fmt.Sprintf("more than %d files", MaxFiles), Try: "pack them into fewer, for instance as JSONL, or set limit, and start a new run"}
}

// public returns an address without its query.
func public(address string) string {
	if strings.HasPrefix(address, "https://") {
		address, _, _ = strings.Cut(address, "?")
	}
	return address
}

// hidden reports whether a name in a folder is one that tools leave behind.
func hidden(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, ".") {
			return true
		}
	}
	return false
}

// changed says that a file is not the one that was found.
func changed(name string) error {
	return &Error{Source: name, Problem: "has changed since the run found it", Try: "put back what stood there, then retry; or start a new run, which reads the new one (answers to texts that stayed are not paid again)"}
}

func gone(name string, err error) error {
	return &Error{Source: name, Problem: "is gone", Err: err, Try: "put it back, then retry", missing: true}
}

// refused turns an answer that will not change by itself into one for a person.
func refused(name string, status int, err error) error {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusMovedPermanently:
		return &Error{Source: name, Problem: "cannot be read", Err: err, Try: "make it readable with the credentials of the workers, then retry"}
	case http.StatusNotFound, http.StatusGone:
		return gone(name, err)
	}
	return err
}
