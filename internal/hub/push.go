package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

const (
	maxInline = 64 << 20 // bytes of all files that travel inside the commit itself
	trailer   = "Selfalign-Push: "
)

// Push is a set of files that becomes one commit.
type Push struct {
	Repo    Repo
	Branch  string // "" is main
	Public  bool   // false: the repository is made private, and a public one is refused (ErrPublic)
	Title   string // the commit's first line; "" is "Push dataset"
	Message string // the rest of it

	// Key names the push for good: a push with the key of a commit on the branch is done already, whatever has
	// happened to the files since. "" takes the digest of all paths and contents, and is looked for only in the last
	// push: so the same files may be pushed again after others.
	Key string

	Files []Upload

	// Replace names folders ("data", "default") whose other files are removed by the same commit, so that a dataset
	// in fewer files leaves none of the old ones behind. README.md and the like at the root are never removed.
	Replace []string

	Progress func(Progress) // called after each file, from several goroutines in turn; may be nil

	derived bool // Key is the digest of the content
}

// Progress counts what has arrived of the large files.
type Progress struct {
	Files, FilesDone int
	Bytes, BytesDone int64
}

// Pushed is what became of a push.
type Pushed struct {
	Commit  string // that holds the files
	URL     string // for people
	Already bool   // nothing had to be committed: an earlier attempt, or the files stood there
	Key     string
}

func (p *Push) branch() string {
	if p.Branch == "" {
		return mainBranch
	}
	return p.Branch
}

// Push uploads the files and commits them at once: the branch shows all of them or none. It may be repeated, after a
// crash in another process too, and makes one commit all the same: the commit carries the push's key, which is looked
// for first, and names its parent, so that a commit whose answer was lost cannot be followed by a second.
func (c *Client) Push(ctx context.Context, p Push) (Pushed, error) {
	if err := p.check(); err != nil {
		return Pushed{}, err
	}
	info, err := c.Create(ctx, p.Repo, p.Public)
	if err != nil {
		return Pushed{}, err
	}
	if !p.Public && !info.Private {
		return Pushed{}, &Error{
			Op: "push to " + p.Repo.String(), Kind: ErrPublic, Message: "nothing was uploaded",
			Try: "make it private at " + c.Page(p.Repo) + "/settings, push to another name, or allow a public push",
		}
	}
	var modes map[string]string
	for try := 1; ; try++ {
		plan, done, err := c.plan(ctx, &p)
		if err != nil || done.Commit != "" {
			return done, err
		}
		if modes == nil {
			if modes, err = c.upload(ctx, &p, plan.add); err != nil {
				return Pushed{}, err
			}
		}
		commit, err := c.commit(ctx, &p, plan, modes)
		if err == nil {
			return Pushed{Commit: commit, URL: c.commitPage(p.Repo, commit), Key: p.Key}, nil
		}
		// Without an answer the commit may stand all the same, and with a conflict somebody else's does. Either way
		// the branch is looked at again before anything is repeated.
		var e *Error
		if ctx.Err() != nil || !errors.As(err, &e) || !(errors.Is(e.Kind, ErrPassing) || errors.Is(e.Kind, ErrConflict)) || try >= c.opt.Attempts {
			return Pushed{}, err
		}
		if err := c.wait(ctx, try, e); err != nil {
			return Pushed{}, err
		}
	}
}

func (c *Client) commitPage(repo Repo, commit string) string {
	return c.repoURL(repo, "commit", commit).String()
}

// plan is what a commit on top of parent would have to change.
type plan struct {
	parent string
	add    []Upload
	remove []string
}

// plan looks at the branch as it is now. done is filled in when nothing has to be committed.
func (c *Client) plan(ctx context.Context, p *Push) (plan, Pushed, error) {
	info, err := c.Info(ctx, p.Repo, p.branch())
	if err != nil {
		return plan{}, Pushed{}, err
	}
	already := func(commit string) (plan, Pushed, error) {
		return plan{}, Pushed{Commit: commit, URL: c.commitPage(p.Repo, commit), Already: true, Key: p.Key}, nil
	}
	looked := 0
	for commit, err := range c.commits(ctx, p.Repo, info.Commit) {
		if err != nil {
			return plan{}, Pushed{}, err
		}
		key := pushKey(commit.Message)
		if key == p.Key {
			return already(commit.ID)
		}
		if looked++; looked >= maxCommits || (p.derived && key != "") {
			break
		}
	}
	files, err := c.Tree(ctx, p.Repo, info.Commit)
	if err != nil {
		return plan{}, Pushed{}, err
	}
	out := plan{parent: info.Commit}
	standing := map[string]File{}
	for _, f := range files {
		standing[f.Path] = f
	}
	for _, f := range p.Files {
		same, err := equal(ctx, f, standing[f.Path])
		if err != nil {
			return plan{}, Pushed{}, err
		}
		if !same {
			out.add = append(out.add, f)
		}
		delete(standing, f.Path)
	}
	for path := range standing {
		if slices.ContainsFunc(p.Replace, func(folder string) bool { return strings.HasPrefix(path, folder+"/") }) {
			out.remove = append(out.remove, path)
		}
	}
	slices.Sort(out.remove)
	if len(out.add) == 0 && len(out.remove) == 0 {
		return already(info.Commit)
	}
	return out, Pushed{}, nil
}

// pushKey returns the key of the push that made a commit, "" for commits that others made.
func pushKey(message string) string {
	key := ""
	for line := range strings.Lines(message) {
		if k, ok := strings.CutPrefix(strings.TrimSpace(line), trailer); ok {
			key = k // ours is the last line
		}
	}
	return key
}

// equal reports whether what stands is what would be pushed.
func equal(ctx context.Context, f Upload, have File) (bool, error) {
	switch {
	case have.Path == "" || have.Size != f.Size:
		return false, nil
	case have.SHA256 != "":
		return have.SHA256 == f.SHA256, nil
	case f.Size > maxInline:
		return false, nil
	}
	content, err := f.content(ctx)
	return err == nil && gitOID(content) == have.OID, err
}

const (
	inline = "regular"
	large  = "lfs"
)

// upload asks which files travel inside the commit and sends the others ahead.
func (c *Client) upload(ctx context.Context, p *Push, files []Upload) (map[string]string, error) {
	modes := make(map[string]string, len(p.Files))
	for batch := range slices.Chunk(p.Files, filesPerCall) { // of all: a later plan may add what stood before
		if err := c.preupload(ctx, p, batch, modes); err != nil {
			return nil, err
		}
	}
	total := int64(0)
	for _, f := range p.Files {
		if modes[f.Path] == inline {
			if total += f.Size; total > maxInline {
				return nil, fmt.Errorf("push to %s: the Hub wants files of over %d bytes inside the commit (%s among them); name data files .parquet", p.Repo, maxInline, f.Path)
			}
		}
	}
	var heavy []Upload
	for _, f := range files {
		if modes[f.Path] == large {
			heavy = append(heavy, f)
		}
	}
	return modes, c.sendLarge(ctx, p, heavy)
}

// preupload asks the Hub how it wants to have files of these names, sizes and beginnings.
func (c *Client) preupload(ctx context.Context, p *Push, files []Upload, modes map[string]string) error {
	type ask struct {
		Path   string `json:"path"`
		Size   int64  `json:"size"`
		Sample string `json:"sample"`
	}
	in := make([]ask, len(files))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.opt.Parallel)
	for i, f := range files {
		g.Go(func() error {
			sample, err := f.sample(gctx)
			in[i] = ask{f.Path, f.Size, base64.StdEncoding.EncodeToString(sample)}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var out struct {
		Files []struct {
			Path   string `json:"path"`
			Mode   string `json:"uploadMode"`
			Ignore bool   `json:"shouldIgnore"`
		} `json:"files"`
	}
	op := "announce files to " + p.Repo.String()
	err := c.post(ctx, op, p.Repo, c.repoAPI(p.Repo, "preupload", p.branch()), nil, map[string]any{"files": in}, &out)
	if err != nil {
		return err
	}
	for _, f := range out.Files {
		if f.Ignore {
			return &Error{Op: op, Kind: ErrProtocol, Message: f.Path + " is left out by the repository's .gitignore", Try: "remove the line from .gitignore, or push to another repository"}
		}
		modes[f.Path] = f.Mode
	}
	for _, f := range files {
		switch {
		case f.Size == 0:
			modes[f.Path] = inline // storage takes no empty object
		case modes[f.Path] != inline && modes[f.Path] != large:
			return &Error{Op: op, Kind: ErrProtocol, Message: fmt.Sprintf("%s is to be uploaded as %.40q", f.Path, modes[f.Path])}
		}
	}
	return nil
}

// commit makes one commit of the plan. It is tried once: the caller finds out what became of it.
func (c *Client) commit(ctx context.Context, p *Push, plan plan, modes map[string]string) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	line := func(key string, value any) error {
		return enc.Encode(struct {
			Key   string `json:"key"`
			Value any    `json:"value"`
		}{key, value})
	}
	description := trailer + p.Key
	if p.Message != "" {
		description = p.Message + "\n\n" + description
	}
	if err := line("header", map[string]string{"summary": p.Title, "description": description, "parentCommit": plan.parent}); err != nil {
		return "", err
	}
	for _, f := range plan.add {
		value := map[string]any{"path": f.Path, "algo": "sha256", "oid": f.SHA256, "size": f.Size}
		key := "lfsFile"
		if modes[f.Path] == inline {
			content, err := f.content(ctx)
			if err != nil {
				return "", err
			}
			key, value = "file", map[string]any{"path": f.Path, "encoding": "base64", "content": content} // []byte is base64 in JSON
		}
		if err := line(key, value); err != nil {
			return "", err
		}
	}
	for _, path := range plan.remove {
		if err := line("deletedFile", map[string]string{"path": path}); err != nil {
			return "", err
		}
	}
	var out struct {
		OID string `json:"commitOid"`
	}
	op := "commit to " + p.Repo.String()
	_, err := c.json(ctx, call{
		op: op, repo: p.Repo, method: http.MethodPost, url: c.repoAPI(p.Repo, "commit", p.branch()), once: true,
		header: http.Header{"Content-Type": {"application/x-ndjson"}},
		body:   func() (io.Reader, error) { return bytes.NewReader(b.Bytes()), nil }, size: int64(b.Len()),
	}, &out)
	if err != nil {
		return "", err
	}
	if !commitRE.MatchString(out.OID) { // it was accepted: the branch says what it is called
		return "", &Error{Op: op, Kind: ErrPassing, Message: "the answer names no commit"}
	}
	return out.OID, nil
}

// check fills in defaults and refuses what no Hub could take.
func (p *Push) check() error {
	if len(p.Files) == 0 {
		return fmt.Errorf("push to %s: no files", p.Repo)
	}
	if _, err := ParseRepo(p.Repo.String()); err != nil || p.Repo.Owner == "" {
		return fmt.Errorf("push: %q: expected owner/name", p.Repo)
	}
	if p.Branch != "" && !validRevision(p.Branch) {
		return fmt.Errorf("push to %s: no branch is called %q", p.Repo, p.Branch)
	}
	seen := map[string]bool{}
	h := sha256.New()
	sorted := slices.Clone(p.Files)
	slices.SortFunc(sorted, func(a, b Upload) int { return strings.Compare(a.Path, b.Path) })
	for _, f := range sorted {
		if err := f.validate(); err != nil {
			return err
		}
		if seen[f.Path] {
			return fmt.Errorf("push to %s: %s is there twice", p.Repo, f.Path)
		}
		seen[f.Path] = true
		fmt.Fprintf(h, "%q %s\n", f.Path, f.SHA256)
	}
	p.Replace = slices.Clone(p.Replace)
	for i, folder := range p.Replace {
		p.Replace[i] = strings.TrimSuffix(folder, "/")
		if !validPath(p.Replace[i]) {
			return fmt.Errorf("push to %s: replace %q: expected a folder", p.Repo, folder)
		}
	}
	if p.Key == "" {
		fmt.Fprintf(h, "%q", p.Replace)
		p.Key, p.derived = hex.EncodeToString(h.Sum(nil)), true
	}
	if len(p.Key) > 200 || strings.IndexFunc(p.Key, func(r rune) bool { return r <= ' ' || r >= 0x7f }) >= 0 {
		return fmt.Errorf("push to %s: key %q: expected up to 200 visible ASCII characters", p.Repo, p.Key)
	}
	p.Title = strings.Join(strings.Fields(p.Title), " ")
	if p.Title == "" {
		p.Title = "Push dataset"
	}
	if p.Progress == nil {
		p.Progress = func(Progress) {}
	}
	return nil
}
