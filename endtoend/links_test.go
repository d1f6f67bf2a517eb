package endtoend

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/devstack/links"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/workflows"
)

// TestLinksAreCut does to the worker's links to Temporal and to S3 all that happens to links, under load. The run goes on by itself,
// ends with the rows of an undisturbed one, and pays twice for nothing: nobody died.
func TestLinksAreCut(t *testing.T) {
	t.Parallel()
	want := mustReference(t)
	l := newLab(t)
	store, err := url.Parse(l.stack.S3.Endpoint)
	require.NoError(t, err)
	wires := map[string]*links.Wire{}
	for name, upstream := range map[string]string{partTemporal: l.stack.TemporalAddress, "S3": store.Host} {
		wires[name], err = links.Lay(name, upstream)
		require.NoError(t, err)
		t.Cleanup(wires[name].Close)
	}
	l.work(wiring{temporal: wires[partTemporal].Addr(), s3: store.Scheme + "://" + wires["S3"].Addr()})
	l.misbehave(slow)
	l.start()
	l.await("the preflight", func(s runs.Seen) bool { return stage(s, "00 preflight").State == workflows.StageDone })
	for name, wire := range wires {
		for _, kind := range links.Kinds() {
			if !l.reached(10, 20*time.Second) {
				l.logf("the run ended before the link to %s: %s", name, kind)
				break
			}
			mend, err := wire.Hurt(kind)
			require.NoError(t, err)
			time.Sleep(2 * time.Second)
			require.NoError(t, mend())
			l.logf("link to %s: %s", name, kind)
		}
	}
	l.survived(want)
}
