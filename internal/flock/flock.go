// Package flock locks open files. A lock belongs to the opening: two openings exclude each other, in one process too, and a
// lock ends with the last process that has the file, however it ends.
package flock

import "os"

// Try takes the lock of a file, unless another has it.
func Try(f *os.File) (got bool, err error) { return try(f) }

// Free gives it back, as closing the file does.
func Free(f *os.File) { free(f) }
