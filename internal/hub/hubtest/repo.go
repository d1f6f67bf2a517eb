package hubtest

import (
	"crypto/sha1" //nolint:gosec // git's object ids
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

type repo struct {
	id       string // owner/name
	private  bool
	gated    bool
	branches map[string]string // name → commit
	commits  map[string]*commit
}

type commit struct {
	id, parent     string
	title, message string
	date           time.Time
	files          map[string]entry
}

// entry is a file at a commit: its content, or where its content lies in large file storage.
type entry struct {
	content []byte
	oid     string // SHA-256 when large
	size    int64
}

func (e entry) large() bool { return e.oid != "" }

func (e entry) pointer() string {
	return fmt.Sprintf("version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n", e.oid, e.size)
}

// gitOID is git's id of what git itself holds: the content, or the pointer to it.
func (e entry) gitOID() string {
	content := e.content
	if e.large() {
		content = []byte(e.pointer())
	}
	h := sha1.New() //nolint:gosec // git's object ids
	fmt.Fprintf(h, "blob %d\x00", len(content))
	h.Write(content)
	return hex.EncodeToString(h.Sum(nil))
}

// Commit is an entry of a branch's history.
type Commit struct {
	ID, Parent, Title, Message string
}

// AddRepo makes a dataset repository owner/name with an initial commit, as the Hub does.
func (s *Server) AddRepo(id string, private, gated bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addRepo(id, private, gated)
}

func (s *Server) addRepo(id string, private, gated bool) *repo {
	r := &repo{id: id, private: private, gated: gated, branches: map[string]string{}, commits: map[string]*commit{}}
	s.repos[id] = r
	attributes := entry{content: []byte("*.parquet filter=lfs diff=lfs merge=lfs -text\n")}
	attributes.size = int64(len(attributes.content))
	s.add(r, "main", "initial commit", "", map[string]entry{".gitattributes": attributes})
	return r
}

// Rename moves a repository; its old name redirects.
func (s *Server) Rename(from, to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repos[to] = s.repos[from]
	s.repos[to].id = to
	delete(s.repos, from)
	s.renamed[from] = to
}

// add puts a commit with these files on a branch.
func (s *Server) add(r *repo, branch, title, message string, files map[string]entry) string {
	s.clock++
	parent := r.branches[branch]
	h := sha1.New() //nolint:gosec // shaped like git's
	fmt.Fprintf(h, "%s %s %d %q %q", r.id, parent, s.clock, title, message)
	id := hex.EncodeToString(h.Sum(nil))
	r.commits[id] = &commit{id: id, parent: parent, title: title, message: message, date: time.Unix(1700000000+s.clock, 0).UTC(), files: files}
	r.branches[branch] = id
	return id
}

// Put commits files behind every client's back and returns the commit. Parquet files become large files, the others
// are kept in git. A nil content deletes. The branch is made if need be.
func (s *Server) Put(id, branch string, files map[string][]byte) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.repos[id]
	next := map[string]entry{}
	if c := r.commits[r.branches[branch]]; c != nil {
		next = maps.Clone(c.files)
	}
	for path, content := range files {
		e := entry{content: content, size: int64(len(content))}
		if content == nil {
			delete(next, path)
			continue
		}
		if strings.HasSuffix(path, ".parquet") {
			sum := sha256.Sum256(content)
			e = entry{oid: hex.EncodeToString(sum[:]), size: int64(len(content))}
			s.objects[e.oid] = content
		}
		next[path] = e
	}
	return s.add(r, branch, "put by hand", "", next)
}

// Commits returns a branch's history, newest first, the initial commit included.
func (s *Server) Commits(id, branch string) []Commit {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.repos[id]
	if r == nil {
		return nil
	}
	var out []Commit
	for c := r.commits[r.branches[branch]]; c != nil; c = r.commits[c.parent] {
		out = append(out, Commit{c.id, c.parent, c.title, c.message})
	}
	return out
}

// Files returns the contents of a branch.
func (s *Server) Files(id, branch string) map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.repos[id]
	if r == nil {
		return nil
	}
	out := map[string][]byte{}
	for path, e := range r.commits[r.branches[branch]].files {
		out[path] = e.content
		if e.large() {
			out[path] = s.objects[e.oid]
		}
	}
	return out
}

// Private reports whether a repository is.
func (s *Server) Private(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.repos[id] != nil && s.repos[id].private
}

// resolve finds what a revision stands for.
func (r *repo) resolve(revision string) *commit {
	if id, ok := r.branches[revision]; ok {
		return r.commits[id]
	}
	return r.commits[revision]
}

// list returns files and folders below a path, sorted.
func (c *commit) list(under string, recursive bool) []map[string]any {
	if under != "" {
		under += "/"
	}
	folders := map[string]bool{}
	var out []map[string]any
	for _, path := range slices.Sorted(maps.Keys(c.files)) {
		rest, ok := strings.CutPrefix(path, under)
		if !ok {
			continue
		}
		parts := strings.Split(rest, "/")
		for i := 1; i < len(parts); i++ {
			folder := under + strings.Join(parts[:i], "/")
			if (recursive || i == 1) && !folders[folder] {
				folders[folder] = true
				out = append(out, map[string]any{"type": "directory", "path": folder, "size": 0, "oid": folderOID(folder)})
			}
		}
		if recursive || len(parts) == 1 {
			out = append(out, c.files[path].describe(path))
		}
	}
	return out
}

func folderOID(path string) string {
	sum := sha1.Sum([]byte("tree " + path)) //nolint:gosec // shaped like git's
	return hex.EncodeToString(sum[:])
}

func (e entry) describe(path string) map[string]any {
	out := map[string]any{"type": "file", "path": path, "size": e.size, "oid": e.gitOID()}
	if e.large() {
		out["lfs"] = map[string]any{"oid": e.oid, "size": e.size, "pointerSize": len(e.pointer())}
	}
	return out
}
