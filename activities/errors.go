package activities

import (
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
)

// Types of application errors that workflows tell apart. Sentinel errors do not survive an activity boundary; these do.
const (
	// ErrTypeBlocked needs a person: a refused key, a used-up quota, a missing model, a bad setting. The details
	// hold a Trouble. It is not retried by itself.
	ErrTypeBlocked = "selfalign.Blocked"
	// ErrTypeTrainerFailed is a fine-tuning job that ended without a model. The details hold a Trouble.
	ErrTypeTrainerFailed = "selfalign.TrainerFailed"
	// ErrTypeBusy hands a partition back to be taken up again soon: a stopping worker, an endpoint that asked to wait,
	// an attempt that lost its lease.
	ErrTypeBusy = "selfalign.Busy"
	// ErrTypeTraining says that a fine-tuning job is still at work.
	ErrTypeTraining = "selfalign.Training"
)

// Trouble is what a person reads when a run is blocked.
type Trouble struct {
	Class   string `json:"class"`   // auth, quota, model, setting, trainer, source
	Message string `json:"message"` // what happened
	Way     string `json:"way"`     // what to do about it
	// SpentMicroUSD is what a fine-tuning job has cost that ended without a model, where that is known.
	SpentMicroUSD int64 `json:"spent_micro_usd,omitempty"`
}

// blocked makes an error that parks the run until a person retries.
func blocked(class string, cause error, way string) error {
	return temporal.NewApplicationErrorWithOptions(cause.Error(), ErrTypeBlocked, temporal.ApplicationErrorOptions{
		NonRetryable: true,
		Cause:        cause,
		Details:      []any{Trouble{Class: class, Message: cause.Error(), Way: way}},
	})
}

// NewTrouble makes an error that parks the run until a person retries, for use in workflows.
func NewTrouble(class, message, way string) error {
	return temporal.NewApplicationErrorWithOptions(message, ErrTypeBlocked, temporal.ApplicationErrorOptions{
		NonRetryable: true,
		Details:      []any{Trouble{Class: class, Message: message, Way: way}},
	})
}

// IsTrainerFailure reports whether the error is a fine-tuning job that ended without a model.
func IsTrainerFailure(err error) bool {
	var app *temporal.ApplicationError
	return errors.As(err, &app) && app.Type() == ErrTypeTrainerFailed
}

// busy makes an error after which the server tries again in delay.
func busy(cause error, delay time.Duration) error {
	return temporal.NewApplicationErrorWithOptions(cause.Error(), ErrTypeBusy, temporal.ApplicationErrorOptions{
		NextRetryDelay: delay,
		Cause:          cause,
	})
}

// handedBack is busy for a partition that another worker takes up at once. It is nothing to be logged as an error.
func handedBack(cause error) error {
	return temporal.NewApplicationErrorWithOptions(cause.Error(), ErrTypeBusy, temporal.ApplicationErrorOptions{
		NextRetryDelay: time.Millisecond,
		Cause:          cause,
		Category:       temporal.ApplicationErrorCategoryBenign,
	})
}

// TroubleOf returns what is to be told about an error of an activity or child workflow, and whether it needs a person.
func TroubleOf(err error) (Trouble, bool) {
	var app *temporal.ApplicationError
	if !errors.As(err, &app) {
		return Trouble{}, false
	}
	switch app.Type() {
	case ErrTypeBlocked, ErrTypeTrainerFailed:
		var t Trouble
		if app.HasDetails() && app.Details(&t) == nil {
			return t, true
		}
		return Trouble{Class: "unknown", Message: app.Message(), Way: "retry when the cause is gone"}, true
	}
	return Trouble{}, false
}
