package s3d

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/versity/versitygw/s3response"
)

// Object operations: each runs on a copy of its input whose bucket is a folder.

func (b *folders) PutObject(ctx context.Context, in s3response.PutObjectInput) (s3response.PutObjectOutput, error) {
	bucket := in.Bucket
	in.Bucket = b.at(bucket)
	out, err := b.posix.PutObjectWithPostFunc(ctx, in, b.syncFile)
	if err != nil {
		return out, b.named(bucket, err)
	}
	return out, b.syncUp(*in.Bucket + "/" + *in.Key)
}

func (b *folders) HeadObject(ctx context.Context, in *s3.HeadObjectInput) (*s3.HeadObjectOutput, error) {
	c := *in
	c.Bucket = b.at(in.Bucket)
	out, err := b.posix.HeadObject(ctx, &c)
	return out, b.named(in.Bucket, err)
}

func (b *folders) GetObject(ctx context.Context, in *s3.GetObjectInput) (*s3.GetObjectOutput, error) {
	c := *in
	c.Bucket = b.at(in.Bucket)
	out, err := b.posix.GetObject(ctx, &c)
	return out, b.named(in.Bucket, err)
}

func (b *folders) ListObjects(ctx context.Context, in *s3.ListObjectsInput) (s3response.ListObjectsResult, error) {
	c := *in
	c.Bucket = b.at(in.Bucket)
	out, err := b.posix.ListObjects(ctx, &c)
	out.Name = in.Bucket
	return out, b.named(in.Bucket, err)
}

func (b *folders) ListObjectsV2(ctx context.Context, in *s3.ListObjectsV2Input) (s3response.ListObjectsV2Result, error) {
	c := *in
	c.Bucket = b.at(in.Bucket)
	out, err := b.posix.ListObjectsV2(ctx, &c)
	out.Name = in.Bucket
	return out, b.named(in.Bucket, err)
}

func (b *folders) DeleteObject(ctx context.Context, in *s3.DeleteObjectInput) (*s3.DeleteObjectOutput, error) {
	c := *in
	c.Bucket = b.at(in.Bucket)
	out, err := b.posix.DeleteObject(ctx, &c)
	return out, b.named(in.Bucket, err)
}

func (b *folders) DeleteObjects(ctx context.Context, in *s3.DeleteObjectsInput) (s3response.DeleteResult, error) {
	c := *in
	c.Bucket = b.at(in.Bucket)
	out, err := b.posix.DeleteObjects(ctx, &c)
	return out, b.named(in.Bucket, err)
}

func (b *folders) CreateMultipartUpload(ctx context.Context, in s3response.CreateMultipartUploadInput) (s3response.InitiateMultipartUploadResult, error) {
	bucket := in.Bucket
	in.Bucket = b.at(bucket)
	out, err := b.posix.CreateMultipartUpload(ctx, in)
	if bucket != nil {
		out.Bucket = *bucket
	}
	return out, b.named(bucket, err)
}

func (b *folders) UploadPart(ctx context.Context, in *s3.UploadPartInput) (*s3.UploadPartOutput, error) {
	c := *in
	c.Bucket = b.at(in.Bucket)
	out, err := b.posix.UploadPartWithPostFunc(ctx, &c, b.syncFile)
	return out, b.named(in.Bucket, err)
}

func (b *folders) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput) (s3response.CompleteMultipartUploadResult, string, error) {
	c := *in
	c.Bucket = b.at(in.Bucket)
	out, version, err := b.posix.CompleteMultipartUpload(ctx, &c)
	out.Bucket = in.Bucket
	if err != nil {
		return out, version, b.named(in.Bucket, err)
	}
	return out, version, b.syncWhole(*c.Bucket + "/" + *in.Key)
}

func (b *folders) AbortMultipartUpload(ctx context.Context, in *s3.AbortMultipartUploadInput) error {
	c := *in
	c.Bucket = b.at(in.Bucket)
	return b.named(in.Bucket, b.posix.AbortMultipartUpload(ctx, &c))
}

func (b *folders) ListMultipartUploads(ctx context.Context, in *s3.ListMultipartUploadsInput) (s3response.ListMultipartUploadsResult, error) {
	c := *in
	c.Bucket = b.at(in.Bucket)
	out, err := b.posix.ListMultipartUploads(ctx, &c)
	if in.Bucket != nil {
		out.Bucket = *in.Bucket
	}
	return out, b.named(in.Bucket, err)
}

func (b *folders) ListParts(ctx context.Context, in *s3.ListPartsInput) (s3response.ListPartsResult, error) {
	c := *in
	c.Bucket = b.at(in.Bucket)
	out, err := b.posix.ListParts(ctx, &c)
	if in.Bucket != nil {
		out.Bucket = *in.Bucket
	}
	return out, b.named(in.Bucket, err)
}
