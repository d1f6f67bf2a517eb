package ollama

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ggufHead bounds how much of a GGUF file is read to find out what it is. General fields stand first in practice.
const ggufHead = 1 << 20

var errGGUF = errors.New("not a GGUF file of version 2 or 3")

// Types of values in GGUF metadata, with their sizes; strings and arrays have none.
const (
	ggufString = 8
	ggufArray  = 9
)

var ggufSizes = map[uint32]int64{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

// ggufType returns the metadata field general.type of a GGUF file: model, adapter …, and "" where it is not said in what r
// gives. The format is that of ggml's docs/gguf.md: magic, version, number of tensors, number of fields, then fields of name,
// type and value, all little-endian.
func ggufType(r io.Reader) (string, error) {
	in := bufio.NewReader(r)
	var head struct {
		Magic           [4]byte
		Version         uint32
		Tensors, Fields uint64
	}
	if err := binary.Read(in, binary.LittleEndian, &head); err != nil || string(head.Magic[:]) != "GGUF" || head.Version < 2 || head.Version > 3 {
		return "", errGGUF
	}
	for range head.Fields {
		name, err := ggufText(in)
		if err != nil {
			return "", told(err)
		}
		var kind uint32
		if err := binary.Read(in, binary.LittleEndian, &kind); err != nil {
			return "", told(err)
		}
		if name == "general.type" && kind == ggufString {
			value, err := ggufText(in)
			return value, told(err)
		}
		if err := ggufSkip(in, kind); err != nil {
			return "", told(err)
		}
	}
	return "", nil
}

// told takes the end of what was read for the end of what is to be known.
func told(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// ggufText reads a string. Longer ones than are of use are an error.
func ggufText(in *bufio.Reader) (string, error) {
	var n uint64
	if err := binary.Read(in, binary.LittleEndian, &n); err != nil {
		return "", err
	}
	if n > 64<<10 {
		return "", fmt.Errorf("%w: a name of %d bytes", errGGUF, n)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(in, b)
	return string(b), err
}

func ggufSkip(in *bufio.Reader, kind uint32) error {
	switch kind {
	case ggufString:
		var n uint64
		if err := binary.Read(in, binary.LittleEndian, &n); err != nil {
			return err
		}
		return discard(in, n)
	case ggufArray:
		var head struct {
			Kind uint32
			N    uint64
		}
		if err := binary.Read(in, binary.LittleEndian, &head); err != nil {
			return err
		}
		if size, ok := ggufSizes[head.Kind]; ok {
			if head.N > ggufHead {
				return io.EOF
			}
			return discard(in, head.N*uint64(size))
		}
		if head.Kind != ggufString {
			return fmt.Errorf("%w: an array of type %d", errGGUF, head.Kind)
		}
		for range head.N {
			if err := ggufSkip(in, ggufString); err != nil {
				return err
			}
		}
		return nil
	}
	size, ok := ggufSizes[kind]
	if !ok {
		return fmt.Errorf("%w: a value of type %d", errGGUF, kind)
	}
	return discard(in, uint64(size))
}

func discard(in *bufio.Reader, n uint64) error {
	if n > ggufHead {
		return io.EOF
	}
	_, err := in.Discard(int(n))
	return err
}
