package servetest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/serve"
)

// LeaveArtifact puts files under a prefix of the store as a trainer leaves them, with their manifest.
func LeaveArtifact(t testing.TB, store *blob.Store, prefix string, files map[string]string) {
	t.Helper()
	var list []serve.File
	for name, body := range files {
		sum := sha256.Sum256([]byte(body))
		list = append(list, serve.File{Path: name, Size: int64(len(body)), SHA256: hex.EncodeToString(sum[:])})
		if err := store.Put(t.Context(), prefix+"/"+name, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := json.Marshal(map[string]any{"format": 1, "files": list})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), prefix+"/selfalign-manifest.json", raw); err != nil {
		t.Fatal(err)
	}
}
