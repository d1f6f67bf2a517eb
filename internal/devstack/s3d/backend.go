package s3d

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

// folders is the part of S3 that selfalign uses, kept in folders below root. The posix backend resolves bucket
// names against the process's working folder and moves the process there to make them fit; here every bucket
// name becomes an absolute path before it gets that far, so that the process stays where it is and several
// servers fit in one. What is not listed answers "not implemented".
type folders struct {
	backend.BackendUnsupported
	posix *posix.Posix
	root  string // absolute
	sync  bool
}

// path returns the folder of a bucket. Names that are no plain folder name lead nowhere.
func (b *folders) path(bucket string) string {
	if bucket == "" || strings.HasPrefix(bucket, ".") || strings.ContainsAny(bucket, `/\`) {
		return filepath.Join(b.root, ".no-such-bucket")
	}
	return filepath.Join(b.root, bucket)
}

func (b *folders) at(bucket *string) *string {
	if bucket == nil {
		return nil
	}
	p := b.path(*bucket)
	return &p
}

// named takes the folder out of errors that carry it as the bucket's name.
func (b *folders) named(bucket *string, err error) error {
	if be, ok := errors.AsType[s3err.BucketError](err); ok && bucket != nil {
		be.BucketName = *bucket
		return be
	}
	return err
}

func (b *folders) String() string { return "selfalign folders" }

func (b *folders) Shutdown() { b.posix.Shutdown() }

func (b *folders) NormalizeObjectKey(bucket, object string) string {
	return b.posix.NormalizeObjectKey(bucket, object)
}

func (b *folders) ListBuckets(_ context.Context, in s3response.ListBucketsInput) (s3response.ListAllMyBucketsResult, error) {
	entries, err := os.ReadDir(b.root)
	if err != nil {
		return s3response.ListAllMyBucketsResult{}, fmt.Errorf("list buckets: %w", err)
	}
	var out s3response.ListAllMyBucketsResult
	out.Owner.ID = in.Owner
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() || strings.HasPrefix(e.Name(), ".") || !strings.HasPrefix(e.Name(), in.Prefix) {
			continue
		}
		out.Buckets.Bucket = append(out.Buckets.Bucket, s3response.ListAllMyBucketsEntry{Name: e.Name(), CreationDate: info.ModTime()})
	}
	return out, nil
}

func (b *folders) HeadBucket(ctx context.Context, in *s3.HeadBucketInput) (*s3.HeadBucketOutput, error) {
	c := *in
	c.Bucket = b.at(in.Bucket)
	out, err := b.posix.HeadBucket(ctx, &c)
	return out, b.named(in.Bucket, err)
}

func (b *folders) GetBucketAcl(ctx context.Context, in *s3.GetBucketAclInput) ([]byte, error) { //nolint:revive // the interface names it
	c := *in
	c.Bucket = b.at(in.Bucket)
	out, err := b.posix.GetBucketAcl(ctx, &c)
	return out, b.named(in.Bucket, err)
}

func (b *folders) CreateBucket(ctx context.Context, in *s3.CreateBucketInput, acl []byte) error {
	c := *in
	c.Bucket = b.at(in.Bucket)
	if c.CreateBucketConfiguration == nil {
		c.CreateBucketConfiguration = &types.CreateBucketConfiguration{}
	}
	if err := b.posix.CreateBucket(ctx, &c, acl); err != nil {
		return b.named(in.Bucket, err)
	}
	return b.syncUp(*c.Bucket)
}

func (b *folders) DeleteBucket(ctx context.Context, bucket string) error {
	return b.named(&bucket, b.posix.DeleteBucket(ctx, b.path(bucket)))
}

func (b *folders) GetBucketVersioning(ctx context.Context, bucket string) (s3response.GetBucketVersioningOutput, error) {
	out, err := b.posix.GetBucketVersioning(ctx, b.path(bucket))
	return out, b.named(&bucket, err)
}

func (b *folders) GetBucketPolicy(ctx context.Context, bucket string) ([]byte, error) {
	out, err := b.posix.GetBucketPolicy(ctx, b.path(bucket))
	return out, b.named(&bucket, err)
}

func (b *folders) GetBucketOwnershipControls(ctx context.Context, bucket string) (types.ObjectOwnership, error) {
	out, err := b.posix.GetBucketOwnershipControls(ctx, b.path(bucket))
	return out, b.named(&bucket, err)
}

func (b *folders) GetBucketCors(ctx context.Context, bucket string) ([]byte, error) {
	out, err := b.posix.GetBucketCors(ctx, b.path(bucket))
	return out, b.named(&bucket, err)
}

func (b *folders) GetObjectLockConfiguration(ctx context.Context, bucket string) ([]byte, error) {
	out, err := b.posix.GetObjectLockConfiguration(ctx, b.path(bucket))
	return out, b.named(&bucket, err)
}

func (b *folders) GetObjectRetention(ctx context.Context, bucket, object, version string) ([]byte, error) {
	out, err := b.posix.GetObjectRetention(ctx, b.path(bucket), object, version)
	return out, b.named(&bucket, err)
}

func (b *folders) GetObjectLegalHold(ctx context.Context, bucket, object, version string) (*bool, error) {
	out, err := b.posix.GetObjectLegalHold(ctx, b.path(bucket), object, version)
	return out, b.named(&bucket, err)
}

// syncUp makes the names on the way from path up to the root durable.
func (b *folders) syncUp(path string) error {
	if !b.sync {
		return nil
	}
	for dir := filepath.Dir(path); len(dir) >= len(b.root); dir = filepath.Dir(dir) {
		if err := syncFolder(dir); err != nil {
			return err
		}
		if dir == b.root {
			break
		}
	}
	return nil
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) { // removed together with its last object meanwhile
		return nil
	}
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // EINVAL: the file system has no such thing
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

// syncFile is the hook that runs on a complete body before it gets its name.
func (b *folders) syncFile(f *os.File) error {
	if !b.sync {
		return nil
	}
	return f.Sync()
}

// syncWhole makes an object durable that was put together from parts, and its name with it.
func (b *folders) syncWhole(path string) error {
	if !b.sync {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync object: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync object: %w", err)
	}
	return b.syncUp(path)
}
