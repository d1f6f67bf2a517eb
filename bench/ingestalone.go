package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"runtime"

	readability "codeberg.org/readeck/go-readability/v2"
	"github.com/JohannesKaufmann/html-to-markdown/v2/converter"
	"github.com/JohannesKaufmann/html-to-markdown/v2/plugin/base"
	"github.com/JohannesKaufmann/html-to-markdown/v2/plugin/commonmark"
	"github.com/JohannesKaufmann/html-to-markdown/v2/plugin/table"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/net/html"

	"github.com/selfalign/selfalign/internal/blob"
)

// alone is what nobody is spared who turns a crawl into text: the libraries that map tasks use, called one after the other, without
// a rule, a check, or a row.
type alone struct {
	Store   stretch `json:"s3"`         // the file got, and the compressed texts put, by the AWS SDK
	Unpack  stretch `json:"gzip"`       // every member decompressed, and looked at no further
	Extract stretch `json:"extraction"` // pages parsed, their main content found and written as Markdown
	Pack    stretch `json:"zstd"`       // the texts compressed, at the level and in the blocks of spills
}

func (a alone) cpu() float64 { return a.Store.CPU + a.Unpack.CPU + a.Extract.CPU + a.Pack.CPU }

// blockBytes is how much of the texts is compressed at once.
const blockBytes = 64 << 10

// library returns what does all this with a file.
func (j ingestJob) library(ctx context.Context, st *blob.Store, took *alone) func(file int) error {
	conv := converter.NewConverter(converter.WithPlugins(base.NewBasePlugin(), commonmark.NewCommonmarkPlugin(), table.NewTablePlugin()))
	at := &url.URL{Scheme: "https", Host: "example.org", Path: "/"}
	one := func(page []byte) ([]byte, error) {
		doc, err := html.Parse(bytes.NewReader(page))
		if err != nil {
			return nil, err
		}
		parser := readability.NewParser()
		parser.KeepClasses, parser.DisableJSONLD, parser.Logger = true, true, slog.New(slog.DiscardHandler)
		article, err := parser.ParseAndMutate(doc, at)
		if err != nil || article.Node == nil {
			return nil, err
		}
		return conv.ConvertNode(article.Node)
	}
	return func(file int) (err error) {
		if file >= j.Plan.Files {
			return nil
		}
		pages := make([][]byte, j.Plan.Pages)
		for i := range pages {
			pages[i] = j.Plan.page(file*j.Plan.Pages + i)
		}
		var packed []byte
		runtime.GC()
		if err := took.Store.timed(func() error {
			packed, err = st.Get(ctx, crawlName(file))
			return err
		}); err != nil {
			return err
		}
		if err := took.Unpack.timed(func() error { return unpack(packed) }); err != nil {
			return err
		}
		var texts bytes.Buffer
		if err := took.Extract.timed(func() error {
			for _, page := range pages {
				text, err := one(page)
				if err != nil {
					return err
				}
				texts.Write(text)
			}
			return nil
		}); err != nil {
			return err
		}
		packed = packed[:0]
		if err := took.Pack.timed(func() error {
			enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(2*blockBytes))
			for err == nil && texts.Len() > 0 {
				packed = enc.EncodeAll(texts.Next(blockBytes), packed)
			}
			return err
		}); err != nil {
			return err
		}
		return took.Store.timed(func() error { return st.Put(ctx, fmt.Sprintf("alone/%05d.zst", file), packed) })
	}
}

// unpack decompresses all members of a file, one after the other.
func unpack(packed []byte) error {
	r := bytes.NewReader(packed)
	z, err := gzip.NewReader(r)
	for err == nil {
		z.Multistream(false)
		if _, err = io.Copy(io.Discard, z); err == nil {
			err = z.Reset(r)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
