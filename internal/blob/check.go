package blob

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// checkAttempts is how often Check knocks before it says that nobody answers.
const checkAttempts = 3

// Check finds out before anything is spent whether the bucket can be reached, read and written, and whether the
// store honours conditional puts, on which every claim and commit rests. It writes and removes one small object.
// Errors end with what to try.
func (s *Store) Check(ctx context.Context) error {
	if err := s.Reach(ctx); err != nil {
		return err
	}
	key := "_check/" + rand.Text()
	if err := s.PutIfAbsent(ctx, key, []byte("selfalign preflight\n")); err != nil {
		return s.explain("write to bucket", err)
	}
	second := s.PutIfAbsent(ctx, key, []byte("selfalign preflight, second writer\n"))
	_, readErr := s.Get(ctx, key)
	if err := s.Delete(ctx, key); err != nil {
		return s.explain("delete from bucket", err)
	}
	if readErr != nil {
		return s.explain("read from bucket", readErr)
	}
	if second == nil {
		return fmt.Errorf("check bucket %s: the store ignores conditional puts (If-None-Match: *), so two writers could "+
			"overwrite each other. Try: a newer version of the store, or another one", s.bucket)
	}
	if !errors.Is(second, ErrExists) {
		return s.explain("write conditionally to bucket", second)
	}
	return nil
}

// Reach finds out whether the bucket answers and lets these keys in. Errors end with what to try.
func (s *Store) Reach(ctx context.Context) error {
	quick := func(o *s3.Options) { o.RetryMaxAttempts = checkAttempts } // a person waits
	if _, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.bucket}, quick); err != nil {
		return s.explain("reach bucket", plain(err))
	}
	return nil
}

func (s *Store) explain(op string, err error) error {
	return fmt.Errorf("%s %s: %w. Try: %s", op, s.bucket, err, s.hint(err))
}

func (s *Store) hint(err error) string {
	if errors.Is(err, ErrNotFound) {
		return "check the endpoint and the bucket's name"
	}
	switch codeOf(err) {
	case "NoSuchBucket", "NotFound":
		return fmt.Sprintf("create the bucket (aws s3 mb s3://%s) or correct its name", s.bucket)
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken":
		return "check the access key and secret key in the environment variables that the settings name"
	case "AccessDenied", "Forbidden", "AllAccessDisabled":
		return "check the credentials, and that they may s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject on the bucket"
	case "PermanentRedirect", "AuthorizationHeaderMalformed", "BadRequest", "MovedPermanently":
		return "set the region in which the bucket lies"
	case "NotImplemented":
		return "a store that implements conditional puts (If-None-Match)"
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return "check that the endpoint is right and the store is running"
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "check the endpoint's host name, and path_style for stores other than AWS"
	}
	switch statusOf(err) {
	case http.StatusForbidden, http.StatusUnauthorized:
		return "check the credentials and what they may do with the bucket"
	case http.StatusNotFound:
		return fmt.Sprintf("create the bucket (aws s3 mb s3://%s) or correct its name", s.bucket)
	}
	return "check the endpoint, the bucket's name, the region and the credentials"
}
