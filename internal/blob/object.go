package blob

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Info describes an object. Key is relative to the store's prefix, Size is in bytes.
type Info struct {
	Key      string
	Size     int64
	ETag     string
	Modified time.Time
}

// nonceKey is the user metadata in which a conditional put signs its object.
const nonceKey = "selfalign-put"

// Get reads a whole object of at most MaxGet bytes. Errors: ErrNotFound, ErrTooLarge.
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	st, err := s.open(ctx, key, "")
	if err != nil {
		return nil, s.wrap("get", key, err)
	}
	defer st.Close()
	if st.size > MaxGet {
		return nil, fmt.Errorf("get %s: %w (%d bytes)", s.URI(key), ErrTooLarge, st.size)
	}
	body := make([]byte, st.size)
	if _, err := io.ReadFull(st, body); err != nil {
		return nil, s.wrap("get", key, err)
	}
	// One more read reaches the end of the body, where the client compares the checksum.
	if _, err := st.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
		return nil, s.wrap("get", key, err)
	}
	return body, nil
}

// Stat returns what the store knows of an object. Errors: ErrNotFound.
func (s *Store) Stat(ctx context.Context, key string) (Info, error) {
	out, err := s.head(ctx, key)
	if err != nil {
		return Info{}, s.wrap("stat", key, err)
	}
	return Info{
		Key: key, Size: aws.ToInt64(out.ContentLength), ETag: aws.ToString(out.ETag), Modified: aws.ToTime(out.LastModified),
	}, nil
}

func (s *Store) head(ctx context.Context, key string) (*s3.HeadObjectOutput, error) {
	full, err := s.full(key)
	if err != nil {
		return nil, err
	}
	return s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: full})
}

// Put writes an object, replacing one that stands there.
func (s *Store) Put(ctx context.Context, key string, body []byte) error {
	full, err := s.full(key)
	if err != nil {
		return fmt.Errorf("put: %w", err)
	}
	_, err = s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.bucket, Key: full, Body: bytes.NewReader(body), ContentLength: aws.Int64(int64(len(body))),
	})
	return s.wrap("put", key, err)
}

// PutIfAbsent writes an object unless one stands there. It returns ErrExists when somebody else's object does,
// even one with equal content. The object carries a random mark, by which a repetition of our own request after
// a lost reply is told from a competitor's; so exactly one of several callers gets nil.
func (s *Store) PutIfAbsent(ctx context.Context, key string, body []byte) error {
	full, err := s.full(key)
	if err != nil {
		return fmt.Errorf("put if absent: %w", err)
	}
	nonce := rand.Text()
	_, err = s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.bucket, Key: full, Body: bytes.NewReader(body), ContentLength: aws.Int64(int64(len(body))),
		IfNoneMatch: aws.String("*"), Metadata: map[string]string{nonceKey: nonce},
	})
	if err == nil {
		return nil
	}
	if status := statusOf(err); status != http.StatusPreconditionFailed && status != http.StatusConflict {
		return s.wrap("put if absent", key, err)
	}
	standing, headErr := s.head(ctx, key)
	if headErr != nil {
		return s.wrap("put if absent: look at what stands", key, headErr)
	}
	if standing.Metadata[nonceKey] == nonce {
		return nil
	}
	return fmt.Errorf("put if absent %s: %w", s.URI(key), ErrExists)
}

// List calls fn for every object whose key starts with prefix, which need not end at a slash. It stops at fn's
// first error and returns it. Keys come in the store's own order; do not rely on it.
func (s *Store) List(ctx context.Context, prefix string, fn func(Info) error) error {
	pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{
		Bucket: &s.bucket, Prefix: aws.String(s.prefix + prefix),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return s.wrap("list", prefix, err)
		}
		for _, o := range page.Contents {
			key := aws.ToString(o.Key)
			if strings.HasSuffix(key, "/") { // a folder marker that some tools leave behind
				continue
			}
			info := Info{
				Key: strings.TrimPrefix(key, s.prefix), Size: aws.ToInt64(o.Size),
				ETag: aws.ToString(o.ETag), Modified: aws.ToTime(o.LastModified),
			}
			if err := fn(info); err != nil {
				return err
			}
		}
	}
	return nil
}

// Prefixes returns the "folders" one level below prefix, which is "" or a folder itself, without slashes at
// their ends and relative to the store's prefix.
func (s *Store) Prefixes(ctx context.Context, prefix string) ([]string, error) {
	full := s.prefix
	if p := strings.Trim(prefix, "/"); p != "" {
		full += p + "/"
	}
	pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{
		Bucket: &s.bucket, Prefix: &full, Delimiter: aws.String("/"),
	})
	var names []string
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, s.wrap("list folders of", prefix, err)
		}
		for _, p := range page.CommonPrefixes {
			names = append(names, strings.TrimSuffix(strings.TrimPrefix(aws.ToString(p.Prefix), s.prefix), "/"))
		}
	}
	return names, nil
}

// Delete removes objects. Absent ones are fine. It may have removed some when it returns an error.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	const atOnce = 1000 // S3's limit for one request
	for len(keys) > 0 {
		n := min(len(keys), atOnce)
		objects := make([]types.ObjectIdentifier, n)
		for i, key := range keys[:n] {
			full, err := s.full(key)
			if err != nil {
				return fmt.Errorf("delete: %w", err)
			}
			objects[i] = types.ObjectIdentifier{Key: full}
		}
		if err := s.deleteSome(ctx, keys[0], objects); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

func (s *Store) deleteSome(ctx context.Context, first string, objects []types.ObjectIdentifier) error {
	if len(objects) == 1 {
		_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: objects[0].Key})
		if statusOf(err) == http.StatusNotFound && codeOf(err) != "NoSuchBucket" {
			return nil
		}
		return s.wrap("delete", first, err)
	}
	out, err := s.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{
		Bucket: &s.bucket, Delete: &types.Delete{Objects: objects, Quiet: aws.Bool(true)},
	})
	if err != nil {
		return s.wrap(fmt.Sprintf("delete %d objects from", len(objects)), first, err)
	}
	for _, e := range out.Errors {
		if aws.ToString(e.Code) == "NoSuchKey" {
			continue
		}
		return fmt.Errorf("delete s3://%s/%s: %s: %s", s.bucket, aws.ToString(e.Key), aws.ToString(e.Code), aws.ToString(e.Message))
	}
	return nil
}
