package blob

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// MaxPresign is how long S3 honours a presigned address at most. Where credentials are temporary it ends with them.
const MaxPresign = 7 * 24 * time.Hour

// Presign returns an address from which whoever has it can read the object for a while. It makes no request to the store.
func (s *Store) Presign(ctx context.Context, key string, lasts time.Duration) (string, error) {
	full, err := s.full(key)
	if err != nil {
		return "", s.wrap("presign", key, err)
	}
	out, err := s3.NewPresignClient(s.client).PresignGetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: full},
		s3.WithPresignExpires(min(lasts, MaxPresign)))
	if err != nil {
		return "", s.wrap("presign", key, err)
	}
	return out.URL, nil
}
