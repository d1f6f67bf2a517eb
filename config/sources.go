package config

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Sources say which places outside of S3 and the Hub a run spec may have a worker read.
type Sources struct {
	// The https:// addresses that specs may read: each one itself and what lies under it. A redirect may lead to another public host, to a private address only where that is allowed too.
	HTTPS []string `yaml:"https" json:"https" jsonschema:"maxItems=1000"`
	// What stands before the lines of a Common Crawl paths list: an https:// or s3:// address. What lies under it may be read.
	PathsBase string `yaml:"paths_base" json:"paths_base"`
}

// Allows reports whether a spec may name this https:// address.
func (s Sources) Allows(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || dotted(u.Path) {
		return false
	}
	for _, allowed := range append([]string{s.PathsBase}, s.HTTPS...) {
		a, err := url.Parse(allowed)
		if err != nil || a.Scheme != "https" || !strings.EqualFold(hostPort(a), hostPort(u)) {
			continue
		}
		path := strings.TrimSuffix(a.Path, "/")
		if u.Path == path || strings.HasPrefix(u.Path, path+"/") {
			return true
		}
	}
	return false
}

func hostPort(u *url.URL) string {
	if u.Port() == "" {
		return u.Hostname() + ":443"
	}
	return u.Hostname() + ":" + u.Port()
}

// dotted reports whether a path leads out of the folder that it begins with.
func dotted(path string) bool {
	return strings.ContainsAny(path, "\\\x00") || slices.ContainsFunc(strings.Split(path, "/"), func(p string) bool { return p == ".." || p == "." })
}

// Local reports whether a source is a path on the machine of the starter.
func (s Source) Local() bool {
	return !strings.Contains(s.Path, "://") || windows.MatchString(s.Path)
}

var (
	hubPath   = regexp.MustCompile(`^(?:datasets/)?[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)?(?:@[^/?#]+)?(?:/[^?#]*)?(?:\?[^#]*)?$`)
	secretArg = regexp.MustCompile(`(?i)sig|token|key|secret|cred|passw|auth`)
)

// sourcePath checks the form of a source's address. Whether the worker may read it is a matter of its settings.
func (ps *problems) sourcePath(at, s string) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || windows.MatchString(s) {
		return
	}
	switch scheme {
	case "s3":
		bucket, key, _ := strings.Cut(rest, "/")
		if bucket == "" || key == "" {
			ps.add(at, "must name a bucket and a key, prefix or pattern", quote(s), "s3://bucket/folder/")
		} else if slices.Contains(strings.Split(key, "/"), "..") {
			ps.add(at, "must not contain ..", quote(s), "")
		}
	case "hf":
		if !hubPath.MatchString(rest) {
			ps.add(at, "is no dataset of the Hub", quote(s), "hf://owner/name, with config, split and revision beside path")
		}
	case "https":
		u, err := url.Parse(s)
		switch {
		case err != nil || u.Host == "" || dotted(u.Path):
			ps.add(at, "is no https:// address", quote(redact(s)), "https://host/folder/file.jsonl.gz")
		case u.User != nil || u.Fragment != "":
			ps.add(at, "must hold neither a user or password nor a #", quote(redact(s)), "")
		case slices.ContainsFunc(names(u.Query()), secretArg.MatchString):
			ps.add(at, "seems to hold a key, which would stand in the run's records", quote(redact(s)), "s3:// for what is not public")
		}
	case "http":
		ps.add(at, "is not encrypted, so that its content could be anybody's", quote(redact(s)), "https://")
	default:
		ps.add(at, "is neither a local path nor an s3://, hf:// or https:// address", quote(redact(s)), "download it first")
	}
}

// sourceParts checks what only some kinds of sources have.
func (ps *problems) sourceParts(at string, s Source) {
	for _, f := range []struct{ name, value string }{{"config", s.Config}, {"split", s.Split}, {"revision", s.Revision}} {
		if f.value != "" && !strings.HasPrefix(s.Path, "hf://") {
			ps.add(at+"."+f.name, "is only for hf:// sources", quote(f.value), "remove it")
		}
	}
	_, query, _ := strings.Cut(s.Path, "?")
	values, err := url.ParseQuery(query)
	if !strings.HasPrefix(s.Path, "hf://") || err != nil {
		return
	}
	for _, f := range []struct {
		name, value string
		twice       bool
	}{
		{"config", s.Config, values.Has("config")},
		{"split", s.Split, values.Has("split")},
		{"revision", s.Revision, strings.Contains(s.Path, "@")},
	} {
		if f.value != "" && f.twice {
			ps.add(at+"."+f.name, "stands in the path too", quote(f.value), "remove one of both")
		}
	}
}

// mayRead checks the addresses of a spec against what the worker's settings allow.
func (ps *problems) mayRead(field string, sources []Source, w Worker) {
	for i, s := range sources {
		if strings.HasPrefix(s.Path, "https://") && !w.Sources.Allows(s.Path) {
			ps.add(fmt.Sprintf("%s[%d].path", field, i), "is not among the addresses that the worker's settings allow", quote(redact(s.Path)),
				"sources.https: ["+folderOf(s.Path)+"] in the worker's settings, or a local copy")
		}
	}
}

// folderOf returns the address of the folder that holds an address.
func folderOf(address string) string {
	address = redact(address)
	return address[:strings.LastIndexByte(address, '/')+1]
}

func (ps *problems) places(w Worker) {
	for i, s := range w.Sources.HTTPS {
		ps.base(fmt.Sprintf("sources.https[%d]", i), s, "https")
	}
	if s := w.Sources.PathsBase; s != "" {
		ps.base("sources.paths_base", s, "https", "s3")
	}
}

func (ps *problems) base(at, s string, schemes ...string) {
	u, err := url.Parse(s)
	if err != nil || !slices.Contains(schemes, u.Scheme) || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || dotted(u.Path) {
		ps.add(at, "must be an address with "+strings.Join(schemes, ":// or ")+":// that ends with its path", quote(redact(s)), "https://host/folder/")
	}
}
