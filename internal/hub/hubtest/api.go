package hubtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(v) // into a recorder
}

// serveHub routes by the escaped path, since a revision may hold slashes.
func (s *Server) serveHub(w http.ResponseWriter, r *http.Request) {
	var seg []string
	for p := range strings.SplitSeq(strings.Trim(r.URL.EscapedPath(), "/"), "/") {
		u, err := url.PathUnescape(p)
		if err != nil {
			fail(w, http.StatusBadRequest, "", "bad path")
			return
		}
		seg = append(seg, u)
	}
	if t := tokenOf(r); t != "" && s.account(r) == nil {
		fail(w, http.StatusUnauthorized, "", "Invalid credentials in Authorization header")
		return
	}
	switch {
	case len(seg) >= 3 && seg[0] == "api" && seg[1] == "datasets":
		s.withRepo(w, r, seg[2:], s.api)
	case len(seg) >= 3 && seg[0] == "datasets":
		s.withRepo(w, r, seg[1:], s.files)
	case len(seg) >= 3 && seg[0] == "api" && seg[1] == "models":
		s.withRepo(w, r, append([]string{modelsOwner + seg[2]}, seg[3:]...), s.api)
	case len(seg) >= 4 && seg[2] == "resolve":
		s.withRepo(w, r, append([]string{modelsOwner + seg[0]}, seg[1:]...), s.files)
	case slices.Equal(seg, []string{"api", "repos", "create"}):
		s.create(w, r)
	case slices.Equal(seg, []string{"api", "whoami-v2"}):
		s.whoami(w, r)
	case slices.Equal(seg, []string{"api", "validate-yaml"}):
		answer(w, map[string]any{"errors": []any{}, "warnings": []any{}})
	case len(seg) == 3 && seg[0] == "complete":
		s.complete(w, r, seg[1], seg[2])
	default:
		fail(w, http.StatusNotFound, "", "no such page")
	}
}

func (s *Server) account(r *http.Request) *Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.accounts[tokenOf(r)]
	if !ok {
		return nil
	}
	return &a
}

func (a *Account) owns(id string) bool {
	owner, _, _ := strings.Cut(id, "/")
	owner = strings.TrimPrefix(owner, modelsOwner)
	return a != nil && (a.User == owner || slices.Contains(a.Orgs, owner))
}

// modelsOwner stands before the owner of a model repository, which has a name space of its own: AddRepo("models:owner/name", …).
const modelsOwner = "models:"

var verbs = []string{"revision", "tree", "paths-info", "commits", "refs", "preupload", "commit", "resolve", "info"}

// withRepo finds the repository that a path begins with, checks that the asker may see it and passes on the rest.
func (s *Server) withRepo(w http.ResponseWriter, r *http.Request, seg []string, next func(http.ResponseWriter, *http.Request, *repo, []string)) {
	n := min(2, len(seg))
	if n == 2 && slices.Contains(verbs, seg[1]) {
		n = 1
	}
	id := strings.TrimSuffix(strings.Join(seg[:n], "/"), ".git")
	s.mu.Lock()
	to, moved := s.renamed[id]
	rp := s.repos[id]
	s.mu.Unlock()
	if moved {
		u := *r.URL
		u.RawPath, u.Path = "", strings.Replace(u.Path, id, to, 1)
		w.Header().Set("Location", u.RequestURI())
		w.WriteHeader(http.StatusTemporaryRedirect)
		return
	}
	who := s.account(r)
	writing := r.Method == http.MethodPost && seg[len(seg)-1] != "batch" && n < len(seg) && seg[n] != "paths-info"
	switch {
	case rp == nil || (rp.private && !who.owns(id)):
		status := http.StatusNotFound
		if who == nil {
			status = http.StatusUnauthorized
		}
		fail(w, status, "RepoNotFound", "Repository not found")
	case rp.gated && !who.owns(id) && n < len(seg) && seg[n] == "resolve":
		status := http.StatusForbidden
		if who == nil {
			status = http.StatusUnauthorized
		}
		fail(w, status, "GatedRepo", "Access to "+strings.TrimPrefix(id, modelsOwner)+" is restricted and you are not in the authorized list.")
	case writing && !(who.owns(id) && who.Write):
		fail(w, http.StatusForbidden, "", "you have no write access to this repository")
	default:
		next(w, r, rp, seg[n:])
	}
}

func (s *Server) api(w http.ResponseWriter, r *http.Request, rp *repo, seg []string) {
	verb, revision := "revision", "main"
	if len(seg) > 0 {
		verb = seg[0]
	}
	if len(seg) > 1 {
		revision = seg[1]
	}
	if verb == "refs" {
		s.refs(w, rp)
		return
	}
	s.mu.Lock()
	c := rp.resolve(revision)
	s.mu.Unlock()
	if c == nil {
		fail(w, http.StatusNotFound, "RevisionNotFound", "Invalid rev id: "+revision)
		return
	}
	switch verb {
	case "revision":
		s.info(w, rp, c)
	case "tree":
		under := strings.Join(seg[2:], "/")
		q := r.URL.Query()
		list := c.list(under, q.Get("recursive") == "true" || q.Get("recursive") == "True" || q.Get("recursive") == "1")
		if len(list) == 0 && under != "" {
			fail(w, http.StatusNotFound, "EntryNotFound", under+" does not exist on "+strconv.Quote(revision))
			return
		}
		paged(s, w, r, list)
	case "commits":
		s.history(w, r, rp, c)
	case "paths-info":
		s.pathsInfo(w, r, c)
	case "preupload":
		s.preupload(w, r, c)
	case "commit":
		s.commit(w, r, rp, revision)
	default:
		fail(w, http.StatusNotFound, "", "no such route")
	}
}

func (s *Server) info(w http.ResponseWriter, rp *repo, c *commit) {
	var siblings []map[string]string
	for _, path := range slices.Sorted(maps.Keys(c.files)) {
		siblings = append(siblings, map[string]string{"rfilename": path})
	}
	owner, _, _ := strings.Cut(rp.id, "/")
	gated := any(false)
	if rp.gated {
		gated = "auto"
	}
	answer(w, map[string]any{
		"_id": "hubtest", "id": strings.TrimPrefix(rp.id, modelsOwner), "author": owner, "sha": c.id, "lastModified": c.date.Format(time.RFC3339),
		"createdAt": c.date.Format(time.RFC3339), "private": rp.private, "gated": gated, "disabled": false,
		"tags": []string{}, "downloads": 0, "likes": 0, "siblings": siblings,
	})
}

func (s *Server) refs(w http.ResponseWriter, rp *repo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	branches, converts := []map[string]string{}, []map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(rp.branches)) {
		if short, ok := strings.CutPrefix(name, "refs/convert/"); ok {
			converts = append(converts, map[string]string{"name": short, "ref": name, "targetCommit": rp.branches[name]})
			continue
		}
		branches = append(branches, map[string]string{"name": name, "ref": "refs/heads/" + name, "targetCommit": rp.branches[name]})
	}
	answer(w, map[string]any{"branches": branches, "converts": converts, "tags": []any{}})
}

// paged answers with one page of a list and a link to the next.
func paged[T any](s *Server, w http.ResponseWriter, r *http.Request, all []T) {
	q := r.URL.Query()
	from, _ := strconv.Atoi(q.Get("cursor"))
	size := s.opt.PageSize
	if n, err := strconv.Atoi(q.Get("limit")); err == nil && n > 0 {
		size = min(size, n)
	}
	from = min(max(from, 0), len(all))
	to := min(from+size, len(all))
	if to < len(all) {
		q.Set("cursor", strconv.Itoa(to))
		w.Header().Set("Link", fmt.Sprintf("<%s%s?%s>; rel=\"next\"", s.hubURL, r.URL.EscapedPath(), q.Encode()))
	}
	page := all[from:to]
	if page == nil {
		page = []T{}
	}
	answer(w, page)
}

func (s *Server) history(w http.ResponseWriter, r *http.Request, rp *repo, c *commit) {
	s.mu.Lock()
	var all []map[string]any
	for ; c != nil; c = rp.commits[c.parent] {
		all = append(all, map[string]any{
			"id": c.id, "title": c.title, "message": c.message, "date": c.date.Format("2006-01-02T15:04:05.000Z"),
			"authors": []map[string]string{{"user": "somebody"}},
		})
	}
	s.mu.Unlock()
	paged(s, w, r, all)
}

func (s *Server) pathsInfo(w http.ResponseWriter, r *http.Request, c *commit) {
	var paths []string
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		var in struct {
			Paths []string `json:"paths"`
		}
		_ = json.NewDecoder(r.Body).Decode(&in) // an empty list answers itself
		paths = in.Paths
	} else if r.ParseForm() == nil {
		paths = r.Form["paths"]
	}
	out := []map[string]any{}
	for _, p := range paths {
		p = strings.Trim(p, "/")
		if e, ok := c.files[p]; ok {
			out = append(out, e.describe(p))
		} else if len(c.list(p, false)) > 0 {
			out = append(out, map[string]any{"type": "directory", "path": p, "size": 0, "oid": folderOID(p)})
		}
	}
	answer(w, out)
}

func (s *Server) whoami(w http.ResponseWriter, r *http.Request) {
	who := s.account(r)
	if who == nil {
		fail(w, http.StatusUnauthorized, "", "Invalid username or password.")
		return
	}
	role := "read"
	if who.Write {
		role = "write"
	}
	orgs := []map[string]string{}
	for _, o := range who.Orgs {
		orgs = append(orgs, map[string]string{"name": o})
	}
	answer(w, map[string]any{"type": "user", "name": who.User, "orgs": orgs, "auth": map[string]any{"type": "access_token", "accessToken": map[string]string{"role": role, "displayName": "t"}}})
}

func (s *Server) create(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Type, Name, Organization, Visibility string
		Private                              *bool
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Name == "" || in.Type != "dataset" {
		fail(w, http.StatusBadRequest, "", "expected the type dataset and a name")
		return
	}
	who := s.account(r)
	if who == nil {
		fail(w, http.StatusUnauthorized, "", "Invalid username or password.")
		return
	}
	owner := in.Organization
	if owner == "" {
		owner = who.User
	}
	id := owner + "/" + in.Name
	if !who.owns(id) || !who.Write {
		fail(w, http.StatusForbidden, "", "You don't have the rights to create a dataset under the namespace \""+owner+"\"")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	page := s.hubURL + "/datasets/" + id
	if s.repos[id] != nil {
		w.WriteHeader(http.StatusConflict)
		answer(w, map[string]string{"error": "You already created this dataset repo", "url": page})
		return
	}
	s.addRepo(id, in.Visibility == "private" || (in.Private != nil && *in.Private), false)
	answer(w, map[string]string{"url": page, "name": id})
}

// files serves what is not under /api: downloads, and the LFS routes of the repository.
func (s *Server) files(w http.ResponseWriter, r *http.Request, rp *repo, seg []string) {
	switch {
	case len(seg) >= 3 && seg[0] == "resolve":
		s.download(w, r, rp, seg[1], strings.Join(seg[2:], "/"))
	case slices.Equal(seg, []string{"info", "lfs", "objects", "batch"}):
		s.batch(w, r, rp)
	case slices.Equal(seg, []string{"info", "lfs", "objects", "verify"}):
		s.verify(w, r)
	default:
		fail(w, http.StatusNotFound, "", "no such page")
	}
}

func (s *Server) download(w http.ResponseWriter, r *http.Request, rp *repo, revision, path string) {
	s.mu.Lock()
	c := rp.resolve(revision)
	s.mu.Unlock()
	if c == nil {
		fail(w, http.StatusNotFound, "RevisionNotFound", "Invalid rev id: "+revision)
		return
	}
	w.Header().Set("X-Repo-Commit", c.id)
	e, ok := c.files[path]
	if !ok {
		fail(w, http.StatusNotFound, "EntryNotFound", "Entry not found")
		return
	}
	if !e.large() {
		w.Header().Set("ETag", `"`+e.gitOID()+`"`)
		http.ServeContent(w, r, path, time.Time{}, bytes.NewReader(e.content))
		return
	}
	s.mu.Lock()
	location := s.sign(s.blobURL, "/blob/"+e.oid)
	s.mu.Unlock()
	w.Header().Set("X-Linked-Etag", `"`+e.oid+`"`)
	w.Header().Set("X-Linked-Size", strconv.FormatInt(e.size, 10))
	w.Header().Set("ETag", `"`+e.oid+`"`)
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusFound)
}
