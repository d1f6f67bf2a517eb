package dataset

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// PrefixCounts counts rows by the first 12 bits of their id. As JSON it is a string of a few hundred bytes to a few
// kilobytes, so that it may travel through a workflow.
type PrefixCounts [1 << prefixBits]int64

// Add returns the sum of both.
func (p PrefixCounts) Add(o PrefixCounts) PrefixCounts {
	for i, n := range o {
		p[i] += n
	}
	return p
}

// Total returns the number of rows.
func (p PrefixCounts) Total() int64 {
	var n int64
	for _, c := range p {
		n += c
	}
	return n
}

// MarshalJSON implements json.Marshaler.
func (p PrefixCounts) MarshalJSON() ([]byte, error) {
	var raw []byte
	for _, n := range p {
		raw = binary.AppendVarint(raw, n)
	}
	var buf bytes.Buffer
	w, err := flate.NewWriter(&buf, flate.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(raw); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return json.Marshal(base64.StdEncoding.EncodeToString(buf.Bytes()))
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *PrefixCounts) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return fmt.Errorf("prefix counts: %w", err)
	}
	packed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return fmt.Errorf("prefix counts: %w", err)
	}
	const most = int64(len(PrefixCounts{}) * binary.MaxVarintLen64)
	raw, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), most))
	if err != nil {
		return fmt.Errorf("prefix counts: %w", err)
	}
	for i := range p {
		n, used := binary.Varint(raw)
		if used <= 0 {
			return errors.New("prefix counts: they end early")
		}
		p[i], raw = n, raw[used:]
	}
	return nil
}
