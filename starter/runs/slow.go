package runs

import "time"

// slowAfter is how long a request to the bucket may take before whoever waits is told what for. The store itself repeats
// requests for up to a minute.
const slowAfter = 3 * time.Second

// waits has Slow told when the bucket does not answer for a while. The caller calls answered when it did.
func (c *Client) waits() (answered func()) {
	if c.Slow == nil {
		return func() {}
	}
	what := "s3://" + c.Store.Bucket()
	if c.Endpoint != "" {
		what += " at " + c.Endpoint
	}
	timer := time.AfterFunc(slowAfter, func() { c.toldSlow.Do(func() { c.Slow(what) }) })
	return func() { timer.Stop() }
}
