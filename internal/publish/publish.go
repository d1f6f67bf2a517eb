// Package publish turns datasets into files that others load as they are: Parquet by config and split, JSONL beside it, and a
// card.
//
// An export lies in the bucket under a folder of its own: the files first, export.json last. It is made once: equal datasets
// give equal bytes, and one that stands is returned as it is.
package publish

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/hub"
)

// Splits.
const (
	SplitTrain = "train"
	SplitTest  = "test"
)

// Leaf is one result: a config (subset) of what is published.
type Leaf struct {
	Config  string      `json:"config"`
	Default bool        `json:"default,omitempty"` // the one that is loaded where none is named
	Dataset dataset.Ref `json:"dataset"`
	Columns []string    `json:"columns,omitempty"` // in this order; nil: all
	Test    float64     `json:"test,omitempty"`    // share of the rows in the split test; answers to one prompt stay together
	Origin  string      `json:"origin,omitempty"`  // training sets: rows of this origin alone
}

// File is one file of an export.
type File struct {
	Path   string `json:"path"` // in the export, and in a repository
	Key    string `json:"key"`  // in the bucket
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	JSONL  bool   `json:"jsonl,omitempty"` // beside the Parquet files; not for the Hub
}

// Split is what an export holds of a config.
type Split struct {
	Config  string `json:"config"`
	Default bool   `json:"default,omitempty"`
	Name    string `json:"name"`
	Rows    int64  `json:"rows"`
}

// Export is a finished export.
type Export struct {
	Format int                 `json:"format"` // 1
	Dir    string              `json:"dir"`
	Leaves []Leaf              `json:"leaves"`
	Splits []Split             `json:"splits"`
	Files  []File              `json:"files"`
	Sample []map[string]string `json:"sample,omitempty"` // rows of the first leaf, texts shortened
	Order  []string            `json:"order,omitempty"`  // of the sample's columns
}

// Digest names an export by what its files hold.
func (e Export) Digest() string {
	h := sha256.New()
	for _, f := range e.Files {
		fmt.Fprintf(h, "%d %s %s\n", len(f.Path), f.Path, f.SHA256)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func exportKey(dir string) string { return dir + "/export.json" }

// Write makes the export of the leaves in dir, or returns the one that stands there. beat is called now and then.
func Write(ctx context.Context, st *blob.Store, dir string, leaves []Leaf, jsonl bool, beat func()) (Export, error) {
	if err := check(leaves); err != nil {
		return Export{}, err
	}
	standing, err := Open(ctx, st, dir)
	if !errors.Is(err, blob.ErrNotFound) {
		return standing, err
	}
	out := Export{Format: 1, Dir: dir, Leaves: leaves}
	for i, leaf := range leaves {
		w := &leafWriter{st: st, dir: dir, leaf: leaf, jsonl: jsonl, beat: beat, splits: map[string]*splitWriter{}}
		if i == 0 {
			w.want = sampleRows
		}
		err := w.run(ctx)
		w.discard()
		if err != nil {
			return Export{}, fmt.Errorf("export %s: %w", leaf.Config, err)
		}
		out.Files = append(out.Files, w.files...)
		out.Splits = append(out.Splits, w.made...)
		if i == 0 {
			out.Sample, out.Order = w.sample, w.names
		}
	}
	slices.SortFunc(out.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	body, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return Export{}, fmt.Errorf("export: %w", err)
	}
	err = st.PutIfAbsent(ctx, exportKey(dir), append(body, '\n'))
	if errors.Is(err, blob.ErrExists) { // another attempt was first, with the same bytes
		return Open(ctx, st, dir)
	}
	return out, err
}

// Open returns the export that stands in dir; blob.ErrNotFound where there is none.
func Open(ctx context.Context, st *blob.Store, dir string) (Export, error) {
	body, err := st.Get(ctx, exportKey(dir))
	if err != nil {
		return Export{}, err
	}
	var out Export
	if err := json.Unmarshal(body, &out); err != nil {
		return Export{}, fmt.Errorf("read %s: %w", st.URI(exportKey(dir)), err)
	}
	return out, nil
}

func check(leaves []Leaf) error {
	if len(leaves) == 0 {
		return errors.New("export: nothing to write")
	}
	card := hub.Card{}
	for _, l := range leaves {
		card.Configs = append(card.Configs, hub.CardConfig{Name: l.Config, Default: l.Default, Splits: []hub.CardSplit{{Name: SplitTrain}}})
		if l.Test < 0 || l.Test >= 1 || math.IsNaN(l.Test) {
			return fmt.Errorf("export %s: share of the test split is %v, expected 0 to below 1", l.Config, l.Test)
		}
	}
	return card.Validate()
}

// splitOf says in which split a row lives.
func splitOf(id string, test float64) string {
	if dataset.HeldOut(id, test) {
		return SplitTest
	}
	return SplitTrain
}

// Push pushes an export with its card as one commit. It may be repeated: see hub.Client.Push. key names the push for good; "" goes
// by content.
func Push(ctx context.Context, c *hub.Client, st *blob.Store, e Export, to Target, card hub.Card, progress func(hub.Progress)) (hub.Pushed, error) {
	repo, err := hub.ParseRepo(to.Repo)
	if err != nil {
		return hub.Pushed{}, err
	}
	readme, err := card.README()
	if err != nil {
		return hub.Pushed{}, err
	}
	p := hub.Push{
		Repo: repo, Branch: to.Branch, Public: to.Public, Title: to.Title, Key: to.Key, Progress: progress,
		Files: []hub.Upload{hub.FromBytes("README.md", readme)},
	}
	for _, f := range e.Files {
		if !f.JSONL {
			p.Files = append(p.Files, hub.Known(st, f.Key, f.Path, f.Size, f.SHA256))
		}
	}
	for _, l := range e.Leaves {
		p.Replace = append(p.Replace, hub.ConfigDir(l.Config))
	}
	return c.Push(ctx, p)
}

// Target is where an export is pushed to.
type Target struct {
	Repo   string // owner/name
	Branch string // "" is main
	Public bool
	Title  string // of the commit
	Key    string // see hub.Push
}
