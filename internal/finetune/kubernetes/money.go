package kubernetes

import (
	"strconv"
	"time"

	"github.com/selfalign/selfalign/internal/finetune"
)

// hold has the cluster end a job when what the budget left for it is spent, where that is sooner than the template says. A
// TrainJob has no such bound.
func (b *Backend) hold(spec, meta map[string]any, limit time.Duration) {
	if limit <= 0 || !b.kind.ttl {
		return
	}
	seconds := int64(limit / time.Second)
	if own, ok := spec["activeDeadlineSeconds"].(float64); ok && own > 0 && own <= float64(seconds) { // a number of JSON
		return
	}
	spec["activeDeadlineSeconds"] = seconds
	child(meta, "annotations")[annotationLimit] = strconv.FormatInt(seconds, 10)
}

// worked tells for how long a job has been at work or was; false where the cluster does not tell.
func (o object) worked(now time.Time) (time.Duration, bool) {
	begun, end := o.Status.Begun, now
	if begun.IsZero() {
		begun = o.Metadata.Created
	}
	if o.state().Terminal() {
		end = o.Status.Ended
		for _, kind := range []string{"Complete", "Failed"} {
			if c, yes := o.condition(kind); yes && end.IsZero() {
				end = c.At
			}
		}
	}
	return max(0, end.Sub(begun)), !begun.IsZero() && !end.IsZero()
}

// settle adds what a job has cost, and to a failure that its time was over.
func (b *Backend) settle(o object, st *finetune.Status) {
	if worked, known := o.worked(time.Now()); known {
		b.rate.Settle(st, worked)
	}
	c, _ := o.condition("Failed")
	limit, err := strconv.Atoi(o.Metadata.Annotations[annotationLimit])
	if st.State == finetune.StateFailed && c.Reason == "DeadlineExceeded" && err == nil {
		st.Message = finetune.Clip(b.rate.Stopped(time.Duration(limit)*time.Second) + "\n" + st.Message)
	}
}
