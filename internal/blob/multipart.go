package blob

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
)

const (
	minPart      = 16 << 20 // files up to this size go in one request
	maxParts     = 10_000   // S3's limit
	partsAtOnce  = 4
	abortTimeout = 10 * time.Second
)

// PutFile writes the file at path as one object, replacing one that stands there. Files over 16 MiB go in parts,
// four at a time, read from disk as they are sent; the object appears whole or not at all.
func (s *Store) PutFile(ctx context.Context, key, path string) error {
	full, err := s.full(key)
	if err != nil {
		return fmt.Errorf("put file: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("put file %s: %w", s.URI(key), err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("put file %s: %w", s.URI(key), err)
	}
	if fi.Size() <= minPart {
		_, err := s.client.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &s.bucket, Key: full, Body: io.NewSectionReader(f, 0, fi.Size()), ContentLength: aws.Int64(fi.Size()),
		})
		return s.wrap("put file", key, err)
	}
	return s.wrap("put file", key, s.putParts(ctx, full, f, fi.Size()))
}

func (s *Store) putParts(ctx context.Context, full *string, f io.ReaderAt, size int64) error {
	created, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &s.bucket, Key: full, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32,
	})
	if err != nil {
		return err
	}
	parts, err := s.uploadParts(ctx, full, created.UploadId, f, size)
	if err == nil {
		_, err = s.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: &s.bucket, Key: full, UploadId: created.UploadId,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		})
	}
	if err == nil {
		return nil
	}
	// Parts left behind cost money; a bucket's lifecycle rule catches those of a killed process.
	actx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	_, _ = s.client.AbortMultipartUpload(actx, &s3.AbortMultipartUploadInput{Bucket: &s.bucket, Key: full, UploadId: created.UploadId})
	return err
}

func (s *Store) uploadParts(ctx context.Context, full, id *string, f io.ReaderAt, size int64) ([]types.CompletedPart, error) {
	partSize := max(minPart, (size+maxParts-1)/maxParts)
	n := int((size + partSize - 1) / partSize)
	parts := make([]types.CompletedPart, n)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(partsAtOnce)
	for i := range n {
		g.Go(func() error {
			off := int64(i) * partSize
			length := min(partSize, size-off)
			number := aws.Int32(int32(i + 1))
			out, err := s.client.UploadPart(ctx, &s3.UploadPartInput{
				Bucket: &s.bucket, Key: full, UploadId: id, PartNumber: number,
				Body: io.NewSectionReader(f, off, length), ContentLength: &length,
				ChecksumAlgorithm: types.ChecksumAlgorithmCrc32,
			})
			if err != nil {
				return fmt.Errorf("part %d: %w", i+1, err)
			}
			parts[i] = types.CompletedPart{PartNumber: number, ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32}
			return nil
		})
	}
	return parts, g.Wait()
}
