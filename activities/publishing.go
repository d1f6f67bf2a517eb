package activities

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/hub"
	"github.com/selfalign/selfalign/internal/publish"
)

// Publishing makes files of datasets and sends them to others. Every activity may be repeated: what stands is found again.
type Publishing struct {
	Store  *blob.Store
	Hub    *hub.Client
	Bucket func(ctx context.Context, bucket string) (*blob.Store, error) // for other buckets
}

// ExportLeavesInput names what is exported, and where to in the run's bucket.
type ExportLeavesInput struct {
	Dir    string         `json:"dir"`
	Leaves []publish.Leaf `json:"leaves"`
	JSONL  bool           `json:"jsonl"`
}

// ExportedLeaves says what stands in the bucket.
type ExportedLeaves struct {
	Dir    string          `json:"dir"`
	Splits []publish.Split `json:"splits"`
	Digest string          `json:"digest"`
	Files  int             `json:"files"`
}

// ExportLeaves writes the files of a run's results. An export that stands is returned at once.
func (p *Publishing) ExportLeaves(ctx context.Context, in ExportLeavesInput) (ExportedLeaves, error) {
	beat := newHeart(ctx)
	defer beat.keep()()
	e, err := publish.Write(ctx, p.Store, in.Dir, in.Leaves, in.JSONL, func() { beat.n.Add(1) })
	if err != nil {
		return ExportedLeaves{}, err
	}
	return ExportedLeaves{Dir: e.Dir, Splits: e.Splits, Digest: e.Digest(), Files: len(e.Files)}, nil
}

// PushInput says what goes to the Hub.
type PushInput struct {
	Dir   string         `json:"dir"` // of the export
	To    config.PushHub `json:"to"`
	Facts publish.Facts  `json:"facts"` // without the spec's text
	Spec  *config.Score  `json:"spec,omitempty"`
	Run   *config.Run    `json:"run,omitempty"` // in place of Spec: of a self-training run
}

// Published is where a result went.
type Published struct {
	Where   string `json:"where"` // hub or s3
	Address string `json:"address"`
	Commit  string `json:"commit,omitempty"`
	Already bool   `json:"already,omitempty"` // an earlier attempt had done it
}

// CardKey is where the card of a run's results lies.
func CardKey(dir string) string { return dir + "/README.md" }

// WriteCard writes the card beside the export.
func (p *Publishing) WriteCard(ctx context.Context, in PushInput) error {
	defer newHeart(ctx).keep()()
	_, readme, err := p.card(ctx, in)
	if err != nil {
		return err
	}
	return p.Store.Put(ctx, CardKey(in.Dir), readme)
}

func (p *Publishing) card(ctx context.Context, in PushInput) (hub.Card, []byte, error) {
	e, err := publish.Open(ctx, p.Store, in.Dir)
	if err != nil {
		return hub.Card{}, nil, err
	}
	facts := in.Facts
	if in.Spec != nil {
		spec := *in.Spec
		var commit string
		commit, err = publish.CommitOf(ctx, p.Store, facts.Steps)
		if err != nil {
			return hub.Card{}, nil, err
		}
		spec.Load = spec.Load.At(commit)
		err = facts.Complete(ctx, p.Store, "score.yaml", spec)
	} else if in.Run != nil {
		err = facts.Complete(ctx, p.Store, "run.yaml", in.Run)
	}
	if err != nil {
		return hub.Card{}, nil, err
	}
	card, err := publish.Card(ctx, p.Store, e, facts)
	if err != nil {
		return hub.Card{}, nil, err
	}
	readme, err := card.README()
	return card, readme, err
}

// PushHub pushes an export with its card to the Hub: one commit, however often it is tried.
func (p *Publishing) PushHub(ctx context.Context, in PushInput) (Published, error) {
	beat := newHeart(ctx)
	defer beat.keep()()
	e, err := publish.Open(ctx, p.Store, in.Dir)
	if err != nil {
		return Published{}, err
	}
	card, _, err := p.card(ctx, in)
	if err != nil {
		return Published{}, err
	}
	to := publish.Target{
		Repo: in.To.Repo, Branch: in.To.Branch, Public: in.To.Public,
		Title: "Push " + in.Facts.Title, Key: e.Digest()[:32] + "-" + in.Facts.Run,
	}
	done, err := publish.Push(ctx, p.Hub, p.Store, e, to, card, func(hub.Progress) { beat.n.Add(1) })
	if err != nil {
		return Published{}, hubTrouble(ctx, err)
	}
	return Published{Where: "hub", Address: done.URL, Commit: done.Commit, Already: done.Already}, nil
}

// hubTrouble parks what only a person can change; the rest is tried again.
func hubTrouble(ctx context.Context, err error) error {
	var e *hub.Error
	if ctx.Err() != nil || !errors.As(err, &e) || errors.Is(err, hub.ErrPassing) || errors.Is(err, hub.ErrConflict) {
		return err
	}
	way := strings.TrimSuffix(e.Try, ".")
	if way == "" {
		way = "look at the repository and the token"
	}
	return blocked("hub", err, way+", then retry")
}

// CopyInput says where the files of an export are copied to.
type CopyInput struct {
	Dir string `json:"dir"`
	To  string `json:"to"` // s3:// prefix with a slash at its end
}

// CopyExport copies an export, its card and its list of files to another prefix, the list last.
func (p *Publishing) CopyExport(ctx context.Context, in CopyInput) (Published, error) {
	beat := newHeart(ctx)
	defer beat.keep()()
	e, err := publish.Open(ctx, p.Store, in.Dir)
	if err != nil {
		return Published{}, err
	}
	bucket, prefix, ok := splitS3(in.To)
	if !ok {
		return Published{}, blocked("setting", fmt.Errorf("%s is not in S3", in.To), "start a new run with an s3:// prefix")
	}
	if own := p.Store; bucket == own.Bucket() {
		for _, taken := range []string{"runs", "ledger", "uploads"} {
			if strings.HasPrefix(in.To, own.URI(taken)+"/") {
				return Published{}, blocked("setting", fmt.Errorf("%s is where selfalign keeps what it works on", in.To), "start a new run with a prefix of its own in push.s3")
			}
		}
	}
	to, err := p.Bucket(ctx, bucket)
	if err != nil {
		return Published{}, err
	}
	for _, f := range e.Files {
		if err := p.copyFile(ctx, f.Key, to, prefix+f.Path); err != nil {
			return Published{}, unreadable(in.To, err)
		}
		beat.n.Add(1)
	}
	for _, name := range []string{"README.md", "export.json"} {
		body, err := p.Store.Get(ctx, in.Dir+"/"+name)
		if errors.Is(err, blob.ErrNotFound) {
			continue
		}
		if err == nil {
			err = to.Put(ctx, prefix+name, body)
		}
		if err != nil {
			return Published{}, unreadable(in.To, err)
		}
	}
	return Published{Where: "s3", Address: in.To}, nil
}

// copyFile copies an object through a file, so that memory stays bounded.
func (p *Publishing) copyFile(ctx context.Context, key string, to *blob.Store, target string) error {
	from, err := p.Store.Stream(ctx, key)
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // only read
	f, err := os.CreateTemp("", "selfalign-copy-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // temporary
	_, err = f.ReadFrom(from)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return to.PutFile(ctx, target, f.Name())
}
