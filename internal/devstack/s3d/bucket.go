package s3d

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/s3err"
)

// CreateBucket makes a bucket. One that stands already is fine.
func (s *Server) CreateBucket(ctx context.Context, name string) error {
	if !validBucket(name) {
		return fmt.Errorf("create bucket %q: a name has 3 to 63 lower-case letters, digits, dots and hyphens and starts with a letter or digit", name)
	}
	acl, err := json.Marshal(auth.ACL{Owner: s.access})
	if err != nil {
		return fmt.Errorf("create bucket %s: %w", name, err)
	}
	ctx = context.WithValue(ctx, "bucket-owner", auth.Account{Access: s.access}) //nolint:staticcheck // the backend's own key
	err = s.backend.CreateBucket(ctx, &s3.CreateBucketInput{
		Bucket: &name, ObjectOwnership: types.ObjectOwnershipBucketOwnerEnforced,
	}, acl)
	if be, ok := errors.AsType[s3err.BucketError](err); ok && be.Code == "BucketAlreadyOwnedByYou" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("create bucket %s: %w", name, err)
	}
	return nil
}

func validBucket(name string) bool {
	if len(name) < 3 || len(name) > 63 || strings.Trim(name[:1], ".-") == "" {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") == ""
}
