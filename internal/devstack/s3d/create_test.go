package s3d_test

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/selfalign/selfalign/internal/devstack/s3d"
)

func createOverHTTP(ctx context.Context, url, bucket string) error {
	client := s3.New(s3.Options{
		BaseEndpoint: &url, Region: s3d.Region, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("access", "secret-secret", ""),
	})
	_, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucket)})
	return err
}
