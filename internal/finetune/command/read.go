package command

import (
	"io"

	"github.com/selfalign/selfalign/internal/finetune"
)

// ReadProgress reads lines of progress (see Line) out of a program's log into st and returns the error that it named last.
func ReadProgress(log io.Reader, st *finetune.Status) (named string) {
	readLines(log, func(l Line) {
		l.addTo(st)
		if l.Error != "" {
			named = l.Error
		}
	})
	return named
}
