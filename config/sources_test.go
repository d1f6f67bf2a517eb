package config_test

import (
	"strings"
	"testing"

	"github.com/selfalign/selfalign/config"
)

// A spec reads only what the settings allow, however it is written.
func TestAllowedAddresses(t *testing.T) {
	t.Parallel()
	s := config.Sources{HTTPS: []string{"https://a.example/data/", "https://b.example:8443"}, PathsBase: "https://crawl.example/"}
	for address, want := range map[string]bool{
		"https://a.example/data/x.jsonl":          true,
		"https://a.example/data":                  true,
		"https://A.example:443/data/x":            true,
		"https://a.example/data/x?download=1":     true,
		"https://b.example:8443/anything":         true,
		"https://crawl.example/x/warc.paths.gz":   true,
		"https://a.example/database/x":            false,
		"https://a.example/data/../secret":        false,
		"https://a.example/data/%2e%2e/secret":    false,
		"https://a.example/data/..%2fsecret":      false,
		`https://a.example/data/..\secret`:        false,
		"https://b.example/anything":              false,
		"http://a.example/data/x":                 false,
		"https://user@a.example/data/x":           false,
		"https://a.example@evil.example/data/x":   false,
		"https://a.example.evil.example/data/x":   false,
		"https://169.254.169.254/latest/metadata": false,
		"s3://a.example/data/x":                   false,
		"":                                        false,
	} {
		if got := s.Allows(address); got != want {
			t.Errorf("%q: %v, want %v", address, got, want)
		}
	}
	if (config.Sources{}).Allows("https://a.example/x") {
		t.Error("nothing is allowed, and yet something")
	}
}

// Addresses are checked for their form before anything is asked.
func TestSourceAddresses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		source config.Source
		want   string // "" is fine
	}{
		{config.Source{Path: "pages/**/*.html"}, ""},
		{config.Source{Path: "s3://b/crawl/**/*.warc.gz"}, ""},
		{config.Source{Path: "hf://owner/name", Config: "en", Split: "train", Revision: "main"}, ""},
		{config.Source{Path: "hf://datasets/owner/name@refs/convert/parquet/en/train/*.parquet"}, ""},
		{config.Source{Path: "hf://owner/name@main?split=test", Config: "en"}, ""},
		{config.Source{Path: "https://host.example/a/b.jsonl.gz?download=1"}, ""},
		{config.Source{Path: "hf://owner/name@main", Revision: "dev"}, "documents[0].revision: stands in the path too"},
		{config.Source{Path: "hf://owner/name?split=a", Split: "b"}, "documents[0].split: stands in the path too"},
		{config.Source{Path: "a.jsonl", Split: "train"}, "documents[0].split: is only for hf:// sources"},
		{config.Source{Path: "hf://"}, "is no dataset of the Hub"},
		{config.Source{Path: "http://host.example/x"}, "is not encrypted"},
		{config.Source{Path: "https://host.example/x?X-Amz-Signature=hunter2"}, "seems to hold a key"},
		{config.Source{Path: "https://me:hunter2@host.example/x"}, "must hold neither a user"},
		{config.Source{Path: "gopher://host.example/x"}, "is neither a local path"},
		{config.Source{Path: "s3://b/../c"}, "must not contain .."},
	} {
		run := config.DefaultRun()
		run.Documents = []config.Source{c.source}
		said := run.Validate().Error() // the rest of the spec is missing
		got := ""
		for line := range strings.SplitSeq(said, "\n") {
			if strings.Contains(line, "documents[") {
				got += line
			}
		}
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) || strings.Contains(got, "hunter2") {
			t.Errorf("%+v: %q, want %q", c.source, got, c.want)
		}
	}
}
