package hub

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Repo names a repository: a dataset's, or a model's. Owner is "" for the few of the Hub's early days that have none.
type Repo struct {
	Owner, Name string
	Model       bool // a model's; they can be read only
}

// String returns owner/name.
func (r Repo) String() string { return strings.Join(r.parts(), "/") }

func (r Repo) parts() []string {
	if r.Owner == "" {
		return []string{r.Name}
	}
	return []string{r.Owner, r.Name}
}

// Source says which rows of which dataset to read.
type Source struct {
	Repo     Repo
	Revision string // branch, tag or commit; "" is main
	Path     string // one file or a glob inside the repository; "" goes by Config and Split
	Config   string // "" is the default config
	Split    string // "" is the only split, else train
}

var (
	nameRE   = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?$`)
	configRE = regexp.MustCompile(`^[^<>:"/\\|?*\x00-\x1f]{1,255}$`)
	splitRE  = regexp.MustCompile(`^\w+(?:\.\w+)*$`)
	commitRE = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// ParseRepo reads owner/name, or a name alone.
func ParseRepo(s string) (Repo, error) {
	owner, name, two := strings.Cut(s, "/")
	if !two {
		owner, name = "", s
	}
	r := Repo{Owner: owner, Name: name}
	if (two && !validName(owner)) || !validName(name) {
		return Repo{}, fmt.Errorf("dataset %q: expected owner/name of letters, digits, '-', '_' and '.'", s)
	}
	return r, nil
}

func validName(s string) bool {
	return nameRE.MatchString(s) && !strings.Contains(s, "--") && !strings.Contains(s, "..") && !strings.HasSuffix(s, ".git")
}

// ParseSource reads hf://datasets/owner/name[@revision][/path][?config=C&split=S]; "datasets/" may be left out. A
// slash inside a revision is written %2F, except in refs/convert/NAME and refs/pr/NUMBER.
func ParseSource(s string) (Source, error) {
	rest, ok := strings.CutPrefix(s, "hf://")
	if !ok {
		return Source{}, fmt.Errorf("source %q: expected hf://owner/name", s)
	}
	var src Source
	rest, query, _ := strings.Cut(rest, "?")
	if err := src.options(query); err != nil {
		return Source{}, fmt.Errorf("source %q: %w", s, err)
	}
	rest = strings.TrimSuffix(rest, "/")
	first, after, more := strings.Cut(rest, "/")
	switch first {
	case "models", "spaces", "buckets":
		return Source{}, fmt.Errorf("source %q: only datasets can be read, not %s", s, first)
	case "datasets":
		if !more {
			return Source{}, fmt.Errorf("source %q: expected hf://datasets/owner/name", s)
		}
		rest = after
	}
	id, path := rest, ""
	if at := strings.IndexByte(rest, '@'); at >= 0 {
		id = rest[:at]
		src.Revision, path = cutRevision(rest[at+1:])
		rev, err := url.PathUnescape(src.Revision)
		if err != nil || !validRevision(rev) {
			return Source{}, fmt.Errorf("source %q: no revision is called %q", s, src.Revision)
		}
		src.Revision = rev
	} else if owner, name, two := strings.Cut(rest, "/"); two {
		name, path, _ = strings.Cut(name, "/")
		id = owner + "/" + name
	}
	repo, err := ParseRepo(id)
	if err != nil {
		return Source{}, fmt.Errorf("source %q: %w", s, err)
	}
	if path != "" && !validPath(strings.TrimSuffix(path, "/")) {
		return Source{}, fmt.Errorf("source %q: %q is no path", s, path)
	}
	src.Repo, src.Path = repo, path
	return src, nil
}

// cutRevision splits what follows the @ into the revision and the path inside the repository.
func cutRevision(s string) (revision, path string) {
	n := 1
	if strings.HasPrefix(s, "refs/convert/") || strings.HasPrefix(s, "refs/pr/") {
		n = 3
	}
	parts := strings.SplitN(s, "/", n+1)
	if len(parts) > n {
		return strings.Join(parts[:n], "/"), parts[n]
	}
	return s, ""
}

func validRevision(s string) bool {
	return s != "" && len(s) <= 255 && !strings.HasPrefix(s, "-") && !strings.HasPrefix(s, "/") && !strings.HasSuffix(s, "/") &&
		!strings.Contains(s, "..") && !strings.Contains(s, "//") && !strings.ContainsAny(s, " ~^:?*[\\\x7f") && strings.IndexFunc(s, func(r rune) bool { return r < 0x20 }) < 0
}

// validPath reports whether p is a path that stays inside its repository.
func validPath(p string) bool {
	if p == "" || len(p) > 1024 || strings.ContainsAny(p, "\\\x00") || strings.IndexFunc(p, func(r rune) bool { return r < 0x20 }) >= 0 {
		return false
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == "" || part == "." || part == ".." || part == ".git" {
			return false
		}
	}
	return true
}

func (s *Source) options(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return fmt.Errorf("%q: expected ?config=NAME&split=NAME", query)
	}
	for key, v := range values {
		switch {
		case key == "config" && configRE.MatchString(v[0]):
			s.Config = v[0]
		case key == "split" && splitRE.MatchString(v[0]):
			s.Split = v[0]
		default:
			return fmt.Errorf("%s=%s: expected ?config=NAME&split=NAME", key, v[0])
		}
	}
	return nil
}

// String returns the source in the form that ParseSource reads.
func (s Source) String() string {
	out := "hf://datasets/" + s.Repo.String()
	if s.Revision != "" {
		out += "@" + url.PathEscape(s.Revision)
	}
	if s.Path != "" {
		out += "/" + s.Path
	}
	q := url.Values{}
	if s.Config != "" {
		q.Set("config", s.Config)
	}
	if s.Split != "" {
		q.Set("split", s.Split)
	}
	if len(q) > 0 {
		out += "?" + q.Encode()
	}
	return out
}
