package blob

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
)

// After these times without an answer whoever opened the store is told. An operation that carries a body may well take longer.
const (
	slowAfter       = 3 * time.Second
	slowUploadAfter = 30 * time.Second
)

// tellSlow watches over operations with all their attempts.
func tellSlow(slow func()) func(*middleware.Stack) error {
	watch := middleware.InitializeMiddlewareFunc("tellSlow", func(
		ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
	) (middleware.InitializeOutput, middleware.Metadata, error) {
		after := slowAfter
		switch in.Parameters.(type) {
		case *s3.PutObjectInput, *s3.UploadPartInput:
			after = slowUploadAfter
		}
		timer := time.AfterFunc(after, slow)
		defer timer.Stop()
		return next.HandleInitialize(ctx, in)
	})
	return func(stack *middleware.Stack) error { return stack.Initialize.Add(watch, middleware.Before) }
}
