package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/selfalign/selfalign/internal/finetune"
)

// Bounds of callbacks.
const (
	maxCallback  = 64 << 10         // of a body, in bytes
	maxWaiting   = 32               // callbacks in work at once
	maxSeen      = 10_000           // ids that are remembered
	seenFor      = 11 * time.Minute // longer than a signature is valid: 5 minutes either way
	callbackTime = 30 * time.Second // for one callback
)

// CallbackPath returns where callbacks about a job go, below the address of a Receiver: who it is trained by, and what waits.
func CallbackPath(trainer, waiting string) string {
	return "/finetune/" + url.PathEscape(trainer) + "/" + url.PathEscape(waiting)
}

// Receiver takes callbacks of training services. A callback is no more than a hint: what it says of the job is not believed,
// the service is asked. So nothing is lost where a callback is, and a callback sent twice changes nothing.
type Receiver struct {
	// Secrets are those of the trainers, by name. See Config.Secret.
	Secrets map[string]func() string
	// Wake has the job looked at on behalf of what waits for it. An error has the service told to call again.
	Wake func(ctx context.Context, trainer, waiting, job string) error

	mu      sync.Mutex
	seen    map[string]time.Time // until when ids of callbacks are remembered
	waiting int
}

// ServeHTTP answers 204 to a callback that was understood, also to one that was there before; 401 where the signature is not the
// trainer's or older than 5 minutes; 503 where the service should call again.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /finetune/{trainer}/{waiting}", r.callback)
	mux.ServeHTTP(w, req)
}

func (r *Receiver) callback(w http.ResponseWriter, req *http.Request) {
	trainer := req.PathValue("trainer")
	secret, ok := r.Secrets[trainer]
	if !ok {
		http.Error(w, "no such trainer", http.StatusNotFound)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxCallback))
	if big := new(http.MaxBytesError); errors.As(err, &big) {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		return // the other side has gone
	}
	if err := verify(secret(), body, req.Header); err != nil {
		http.Error(w, "signature: "+err.Error(), http.StatusUnauthorized)
		return
	}
	var event Event
	var about Reference
	if json.Unmarshal(body, &event) != nil || event.Type != TypeChanged || json.Unmarshal(event.Data, &about) != nil || about.ID == "" {
		http.Error(w, `want {"type": "`+TypeChanged+`", "timestamp": …, "data": {"id": …}}`, http.StatusBadRequest)
		return
	}
	key := trainer + " " + req.Header.Get(headerID)
	switch r.admit(key, time.Now()) {
	case admitted:
	case known:
		w.WriteHeader(http.StatusNoContent)
		return
	default:
		w.Header().Set("Retry-After", "10")
		http.Error(w, "too many callbacks", http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), callbackTime)
	defer cancel()
	err = r.Wake(ctx, trainer, req.PathValue("waiting"), about.ID)
	r.done(key, err == nil)
	switch {
	case finetune.ClassOf(err) == finetune.ClassNotFound:
		http.Error(w, "no such job", http.StatusNotFound)
	case err != nil:
		w.Header().Set("Retry-After", "10")
		http.Error(w, "call again", http.StatusServiceUnavailable)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// verify checks a message that any of the secrets may have signed.
func verify(secrets string, body []byte, h http.Header) error {
	keys, err := keysOf(secrets)
	if err != nil {
		return errors.New("this worker has no secret for the trainer")
	}
	for _, key := range keys {
		if err = key.Verify(body, h); err == nil {
			return nil
		}
	}
	for _, plain := range []error{
		standard.ErrRequiredHeaders, standard.ErrInvalidHeaders, standard.ErrMessageTooOld, standard.ErrMessageTooNew,
	} {
		if errors.Is(err, plain) {
			return plain
		}
	}
	return standard.ErrNoMatchingSignature
}

// What becomes of a callback.
const (
	admitted = iota
	known    // it was there before
	tooMany
)

func (r *Receiver) admit(key string, now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = map[string]time.Time{}
	}
	if until, ok := r.seen[key]; ok && until.After(now) {
		return known
	}
	if len(r.seen) >= maxSeen {
		for k, until := range r.seen {
			if !until.After(now) {
				delete(r.seen, k)
			}
		}
	}
	if len(r.seen) >= maxSeen || r.waiting >= maxWaiting || len(key) > 1024 {
		return tooMany
	}
	r.waiting++
	r.seen[strings.Clone(key)] = now.Add(seenFor)
	return admitted
}

// done forgets a callback that led to nothing, so that it may come again.
func (r *Receiver) done(key string, well bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting--
	if !well {
		delete(r.seen, key)
	}
}
