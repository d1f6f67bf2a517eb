package activities

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/selfalign/selfalign/internal/blob"
)

func splitS3(uri string) (bucket, key string, ok bool) {
	rest, ok := strings.CutPrefix(uri, "s3://")
	if !ok {
		return "", "", false
	}
	bucket, key, _ = strings.Cut(rest, "/")
	return bucket, key, bucket != ""
}

// unreadable turns an answer of S3 that will not change by itself into trouble that a person is told of.
func unreadable(address string, err error) error {
	var answer interface{ HTTPStatusCode() int }
	if errors.As(err, &answer) {
		switch answer.HTTPStatusCode() {
		case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMovedPermanently:
			return blocked("source", fmt.Errorf("%s: %w", address, err), "make it accessible with the credentials of the workers, then retry")
		}
	}
	if errors.Is(err, blob.ErrNotFound) {
		return blocked("source", fmt.Errorf("%s is gone: %w", address, err), "put it back, then retry")
	}
	return err
}
