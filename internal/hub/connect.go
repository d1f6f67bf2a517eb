package hub

import (
	"log/slog"
	"os"
	"strings"
)

// Connect returns a client as settings describe it: of the Hub at endpoint ("" is DefaultEndpoint), with the token that the
// environment variable tokenEnv holds whenever a request is made; "" is anonymous. It makes no request.
func Connect(endpoint, tokenEnv string, log *slog.Logger) (*Client, error) {
	opt := Options{Endpoint: endpoint, Log: log}
	if tokenEnv != "" {
		opt.Token = func() string { return strings.TrimSpace(os.Getenv(tokenEnv)) }
	}
	return New(opt)
}
