package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
)

// What is measured is a crawl: pages with segments, in English and not, and records that are no pages, of the sizes wanted.
func TestCrawlIsOne(t *testing.T) {
	t.Parallel()
	plan := crawlPlan{Files: 2, Pages: 24, Share: 0.5, Record: 1 << 20, Seed: 9}
	path := filepath.Join(t.TempDir(), "a.warc.gz")
	raw, err := plan.write(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(z)
	if err != nil || strings.Count(string(all), "WARC-Type: response") < 24+1+4 {
		t.Fatalf("%v; %d records", err, strings.Count(string(all), "WARC-Type: response"))
	}
	if share := float64(len(all)) - float64(raw); share < 0 || share > 0.01*float64(raw) { // the heads of scripts are not counted
		t.Errorf("%d bytes said, %d written", raw, len(all))
	}
	pages, segments, reasons := map[string]bool{}, 0, map[string]int{}
	for item, err := range corpus.Documents(t.Context(), "a.warc.gz", bytes.NewReader(body), corpus.DocumentOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if item.Reject != nil {
			reasons[item.Reject.Reason]++
			continue
		}
		segments++
		pages[item.Segment.Document] = true
	}
	if segments < 3*len(pages) || len(pages) < 16 || reasons[corpus.ReasonLanguage] == 0 || reasons[corpus.ReasonNotHTML] < 4 {
		t.Errorf("%d segments of %d pages, %v", segments, len(pages), reasons)
	}
}

func TestIngestPass(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	plan := crawlPlan{Files: 2, Pages: 6, Share: 0.8, Seed: 9}
	if _, _, err := plan.upload(t.Context(), st, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	for _, job := range []ingestJob{{Dir: "turns", AtOnce: 1, Plan: plan, Library: true}, {Dir: "all", AtOnce: 2, Plan: plan}} {
		pass, err := job.run(t.Context(), st)
		if err != nil {
			t.Fatal(err)
		}
		if l := pass.Library; job.Library && (l.Store.Seconds == 0 || l.Unpack.Seconds == 0 || l.Extract.Seconds == 0 || l.Pack.Seconds == 0) {
			t.Errorf("libraries were not measured: %+v", l)
		}
		rows, err := countRows(t.Context(), job.Dir, pass, st)
		if err != nil || rows != pass.Rows || pass.Rows == 0 || pass.Input <= pass.Rows || pass.Tasks < 1 {
			t.Errorf("%v; %d rows of %+v", err, rows, pass)
		}
	}
	r := ingestResult{Plan: plan, Raw: 1e6, Turns: &ingestPass{}, Passes: []ingestPass{{Procs: 1}, {Procs: 2}}}
	var out bytes.Buffer
	if r.print(&out); !strings.Contains(out.String(), "libraries alone") {
		t.Error(out.String())
	}
}

// countRows adds up what the partitions of a pass hold.
func countRows(ctx context.Context, dir string, pass ingestPass, st *blob.Store) (rows int64, err error) {
	for p := range 1 << pass.Bits {
		receipt, err := dataset.ReadReceipt(ctx, st, dir, p)
		if err != nil {
			return rows, err
		}
		rows += receipt.Rows
	}
	return rows, nil
}
