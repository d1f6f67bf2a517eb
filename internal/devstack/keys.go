package devstack

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// KeysFile in the data folder holds the keys of its S3 server, readable by its owner alone, in a form that a shell can read.
const KeysFile = "keys.env"

type keys struct{ Access, Secret string }

// loadKeys reads the keys of a data folder and makes them up the first time.
func loadKeys(path string) (keys, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKeys(path)
	}
	if err != nil {
		return keys{}, fmt.Errorf("read keys: %w", err)
	}
	var k keys
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		switch name {
		case AccessKeyEnv:
			k.Access = value
		case SecretKeyEnv:
			k.Secret = value
		}
	}
	if k.Access == "" || k.Secret == "" {
		return keys{}, fmt.Errorf("read keys: %s holds none. Try: remove the file; new keys are made up, the data stays", path)
	}
	return k, nil
}

func makeKeys(path string) (keys, error) {
	var raw [30]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return keys{}, fmt.Errorf("make up keys: %w", err)
	}
	k := keys{Access: "SA" + strings.ToUpper(hex.EncodeToString(raw[:9])), Secret: hex.EncodeToString(raw[9:])}
	text := fmt.Sprintf("export %s=%s\nexport %s=%s\n", AccessKeyEnv, k.Access, SecretKeyEnv, k.Secret)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return keys{}, fmt.Errorf("write keys: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return keys{}, fmt.Errorf("write keys: %w", err)
	}
	return k, nil
}
