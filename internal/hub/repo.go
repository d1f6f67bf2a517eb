package hub

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"
)

const (
	mainBranch  = "main"
	maxFiles    = 1_000_000 // files of one tree
	pageCommits = 50        // commits looked through for a push, at most maxCommits
	maxCommits  = 1000
)

// Info is what the Hub says of a dataset at a revision.
type Info struct {
	ID      string // owner/name as it is called now, after renames
	Commit  string // the revision's commit, 40 hexadecimal digits
	Private bool
	Gated   bool
}

// Info asks what a revision ("" is main) is now. Its commit pins every later read.
func (c *Client) Info(ctx context.Context, repo Repo, revision string) (Info, error) {
	if revision == "" {
		revision = mainBranch
	}
	op := fmt.Sprintf("look up %s@%s", repo, revision)
	var said struct {
		ID      string `json:"id"`
		SHA     string `json:"sha"`
		Private bool   `json:"private"`
		Gated   any    `json:"gated"` // false, "auto" or "manual"
	}
	_, err := c.json(ctx, call{op: op, repo: repo, method: http.MethodGet, url: c.repoAPI(repo, "revision", revision)}, &said)
	if err != nil {
		return Info{}, err
	}
	if !commitRE.MatchString(said.SHA) {
		return Info{}, &Error{Op: op, Kind: ErrProtocol, Message: "the answer names no commit"}
	}
	gated := said.Gated != nil && said.Gated != false && said.Gated != ""
	return Info{ID: said.ID, Commit: said.SHA, Private: said.Private, Gated: gated}, nil
}

// File is a file of a repository at a commit.
type File struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	OID    string `json:"oid"`              // git's object id
	SHA256 string `json:"sha256,omitempty"` // of the content, for files in large file storage; "" for the others
}

// Tree lists all files of a commit (a branch or tag will do, but may change between two pages).
func (c *Client) Tree(ctx context.Context, repo Repo, commit string) ([]File, error) {
	op := fmt.Sprintf("list the files of %s@%s", repo, commit)
	u := c.repoAPI(repo, "tree", commit)
	u.RawQuery = "recursive=true&expand=false"
	var files []File
	for entry, err := range pages[treeEntry](ctx, c, op, repo, u) {
		if err != nil {
			return nil, err
		}
		f, ok, err := entry.file()
		if err != nil {
			return nil, &Error{Op: op, Kind: ErrProtocol, Err: err}
		}
		if ok {
			files = append(files, f)
		}
		if len(files) > maxFiles {
			return nil, &Error{Op: op, Kind: ErrProtocol, Message: fmt.Sprintf("over %d files", maxFiles)}
		}
	}
	return files, nil
}

type treeEntry struct {
	Type string `json:"type"`
	Path string `json:"path"`
	OID  string `json:"oid"`
	Size int64  `json:"size"`
	LFS  *struct {
		OID  string `json:"oid"`
		Size int64  `json:"size"`
	} `json:"lfs"`
}

// file reads an entry of a tree; ok is false for folders and submodules.
func (e treeEntry) file() (f File, ok bool, err error) {
	if e.Type != "file" {
		return File{}, false, nil
	}
	if !validPath(e.Path) {
		return File{}, false, fmt.Errorf("a file called %.80q", e.Path)
	}
	f = File{Path: e.Path, Size: e.Size, OID: e.OID}
	if e.LFS != nil {
		if !validDigest(e.LFS.OID) {
			return File{}, false, fmt.Errorf("%s has the digest %.80q", e.Path, e.LFS.OID)
		}
		f.Size, f.SHA256 = e.LFS.Size, e.LFS.OID
	}
	if f.Size < 0 {
		return File{}, false, fmt.Errorf("%s has %d bytes", e.Path, f.Size)
	}
	return f, true, nil
}

// Commit is an entry of a branch's history.
type Commit struct {
	ID      string `json:"id"`
	Title   string `json:"title"`
	Message string `json:"message"` // without the title
}

// commits walks a revision's history, newest first.
func (c *Client) commits(ctx context.Context, repo Repo, revision string) iter.Seq2[Commit, error] {
	op := fmt.Sprintf("list the commits of %s@%s", repo, revision)
	u := c.repoAPI(repo, "commits", revision)
	u.RawQuery = fmt.Sprintf("limit=%d", pageCommits)
	return pages[Commit](ctx, c, op, repo, u)
}

// pages walks a list that comes in pages, each naming the next in its Link header.
func pages[T any](ctx context.Context, c *Client, op string, repo Repo, u *url.URL) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		seen := map[string]bool{}
		for u != nil {
			seen[u.String()] = true
			var page []T
			h, err := c.json(ctx, call{op: op, repo: repo, method: http.MethodGet, url: u}, &page)
			if err != nil {
				yield(none, err)
				return
			}
			for _, item := range page {
				if !yield(item, nil) {
					return
				}
			}
			u, err = c.nextPage(h)
			if err != nil || (u != nil && seen[u.String()]) {
				yield(none, &Error{Op: op, Kind: ErrProtocol, Message: "the next page's address makes no sense"})
				return
			}
		}
	}
}

// nextPage returns the address in Link: <…>; rel="next", or nil on the last page. Pages come from the endpoint only.
func (c *Client) nextPage(h http.Header) (*url.URL, error) {
	for _, line := range h.Values("Link") {
		for link := range strings.SplitSeq(line, ",") {
			target, params, ok := strings.Cut(strings.TrimSpace(link), ">")
			if !ok || !strings.HasPrefix(target, "<") || !relNext(params) {
				continue
			}
			u, err := c.local(target[1:])
			if err != nil {
				return nil, err
			}
			if !c.home(u) {
				return nil, errors.New("on another host")
			}
			return u, nil
		}
	}
	return nil, nil //nolint:nilnil // the last page
}

func relNext(params string) bool {
	for p := range strings.SplitSeq(params, ";") {
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(k, "rel") && strings.EqualFold(strings.Trim(v, `"`), "next") {
			return true
		}
	}
	return false
}

// validDigest reports whether s is a SHA-256 digest in lower-case hexadecimal digits.
func validDigest(s string) bool {
	if len(s) != 64 {
		return false
	}
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return false
		}
	}
	return true
}

// Create makes the repository, private unless public is true, if it is not there already. It returns what stands
// then: one that stood before keeps its visibility.
func (c *Client) Create(ctx context.Context, repo Repo, public bool) (Info, error) {
	info, err := c.Info(ctx, repo, "")
	if err == nil || !(errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnauthorized)) {
		return info, err
	}
	visibility := "private"
	if public {
		visibility = "public"
	}
	in := map[string]any{"type": "dataset", "name": repo.Name, "private": !public, "visibility": visibility}
	if repo.Owner != "" {
		in["organization"] = repo.Owner
	}
	op := "create " + repo.String()
	for try := 1; ; try++ {
		made := c.post(ctx, op, repo, c.api("repos", "create"), nil, in, nil)
		if made != nil && !errors.Is(made, ErrConflict) { // a conflict: another one was faster, or is at it
			return Info{}, made
		}
		info, err = c.Info(ctx, repo, "")
		if err == nil || !errors.Is(err, ErrNotFound) || try >= c.opt.Attempts {
			return info, err
		}
		if err := c.wait(ctx, try, &Error{Op: op}); err != nil { // a new repository may take a moment to be seen
			return Info{}, err
		}
	}
}
