package hub

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// bomb packs 300 MiB of zeros.
func bomb(t *testing.T, codec format.CompressionCodec) []byte {
	t.Helper()
	var b bytes.Buffer
	zeros := make([]byte, 1<<20)
	write := func(w interface {
		Write([]byte) (int, error)
		Close() error
	},
	) {
		for range 300 {
			if _, err := w.Write(zeros); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	switch codec {
	case format.Zstd:
		w, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		write(w)
	case format.Gzip:
		write(gzip.NewWriter(&b))
	case format.Snappy:
		b.Write(binary.AppendUvarint(nil, 300<<20))
	case format.Lz4Raw:
		b.Write([]byte{0x1f, 0, 1, 0}) // one zero, repeated
		b.Write(bytes.Repeat([]byte{255}, 300<<20/255))
		b.Write([]byte{0, 0})
	}
	return b.Bytes()
}

// TestPages shows the guard pages as a hostile file may hold them.
func TestPages(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("testdata/parquet/zstd.parquet")
	if err != nil {
		t.Fatal(err)
	}
	f, err := parquet.OpenFile(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	leaf := f.Root().Column("prompt") // optional: definition levels
	v1 := func(n int32, e format.Encoding) format.PageHeader {
		return format.PageHeader{Type: format.DataPage, DataPageHeader: thrift.New(format.DataPageHeader{
			NumValues: n, Encoding: e, DefinitionLevelEncoding: format.RLE, RepetitionLevelEncoding: format.RLE,
		})}
	}
	levels := func(run ...byte) []byte {
		return append(binary.LittleEndian.AppendUint32(nil, uint32(len(run))), run...)
	}
	all := levels(8, 1) // 4 values, all there
	big := binary.AppendUvarint(nil, 1<<31<<1)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	cases := []struct {
		name   string
		codec  format.CompressionCodec
		header format.PageHeader
		body   []byte
		says   string
	}{
		{"plain", format.Uncompressed, v1(4, format.Plain), join(all, []byte("abcd")), ""},
		{"dictionary indexes", format.Uncompressed, v1(4, format.RLEDictionary), join(all, []byte{1, 8, 0}), ""},
		{"deltas", format.Uncompressed, v1(4, format.DeltaLengthByteArray), join(all, []byte{128, 1, 4, 4, 0}), ""},
		{"too many levels", format.Uncompressed, v1(4, format.Plain), join(levels(append(bytes.Clone(big), 1)...)), "runs of over"},
		{"levels over the end", format.Uncompressed, v1(4, format.Plain), []byte{200, 0, 0, 0, 8}, "over their page's end"},
		{"too many indexes", format.Uncompressed, v1(4, format.RLEDictionary), join(all, []byte{1}, big, []byte{0}), "runs of over"},
		{"wide indexes", format.Uncompressed, v1(4, format.RLEDictionary), join(all, []byte{33, 8, 0}), "over 32 bits"},
		{"too many deltas", format.Uncompressed, v1(4, format.DeltaBinaryPacked), join(all, []byte{128, 1, 4}, binary.AppendUvarint(nil, 1<<30), []byte{0}), "deltas in a page"},
		{"prefix deltas", format.Uncompressed, v1(4, format.DeltaByteArray), all, "write the file anew"},
		{"too many values", format.Uncompressed, v1(maxPageValues+1, format.Plain), all, "a page of"},
		{"negative values", format.Uncompressed, v1(-1, format.Plain), all, "a page of"},
		{"unknown type", format.Uncompressed, format.PageHeader{Type: 77}, all, "type"},
		{"zstd bomb", format.Zstd, v1(4, format.Plain), bomb(t, format.Zstd), "over the limit"},
		{"gzip bomb", format.Gzip, v1(4, format.Plain), bomb(t, format.Gzip), "over the limit"},
		{"snappy bomb", format.Snappy, v1(4, format.Plain), bomb(t, format.Snappy), "over the limit"},
		{"lz4 bomb", format.Lz4Raw, v1(4, format.Plain), bomb(t, format.Lz4Raw), "corrupt"},
		{"lz4 of nothing", format.Lz4Raw, v1(4, format.Plain), nil, "empty page"},
		{"zstd noise", format.Zstd, v1(4, format.Plain), []byte("no zstd at all"), "corrupt"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.header.CompressedPageSize = int32(len(tc.body))
			tc.header.UncompressedPageSize = int32(min(len(tc.body), maxPage))
			head, err := thrift.Marshal(new(thrift.CompactProtocol), tc.header)
			if err != nil {
				t.Fatal(err)
			}
			file := append(head, tc.body...)
			u, err := newUnpacker()
			if err != nil {
				t.Fatal(err)
			}
			defer u.close()
			chunk := &format.ColumnMetaData{Codec: tc.codec, TotalCompressedSize: int64(len(file))}
			g, err := newGuard(newBlocks(bytes.NewReader(file), int64(len(file))), chunk, 4, leaf, u)
			if err != nil {
				t.Fatal(err)
			}
			err = g.next(tc.codec)
			if tc.says == "" {
				if err != nil || u.held == 0 {
					t.Errorf("%v, %d bytes held", err, u.held)
				}
				if g.leave(); u.held != 0 {
					t.Errorf("%d bytes held at the end", u.held)
				}
			} else if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestHeaderSizes refuses pages that claim to be larger than a page may be, or than their chunk is.
func TestHeaderSizes(t *testing.T) {
	t.Parallel()
	for _, sizes := range [][2]int32{{-1, 10}, {10, -1}, {1 << 30, 10}, {10, 1 << 30}} {
		h := format.PageHeader{Type: format.DataPage, CompressedPageSize: sizes[0], UncompressedPageSize: sizes[1]}
		head, err := thrift.Marshal(new(thrift.CompactProtocol), h)
		if err != nil {
			t.Fatal(err)
		}
		u, err := newUnpacker()
		if err != nil {
			t.Fatal(err)
		}
		file := append(head, make([]byte, 100)...)
		g, err := newGuard(newBlocks(bytes.NewReader(file), int64(len(file))), &format.ColumnMetaData{TotalCompressedSize: int64(len(file))}, 4, nil, u)
		if err != nil {
			t.Fatal(err)
		}
		if g.next(format.Uncompressed) == nil {
			t.Errorf("took a page of %v bytes", sizes)
		}
		u.close()
	}
}
