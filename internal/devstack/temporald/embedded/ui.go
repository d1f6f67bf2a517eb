package embedded

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/temporalio/ui-server/v2/server"
	"github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/server_options"

	"github.com/selfalign/selfalign/internal/devstack/loopback"
)

type ui struct{ server *server.Server }

// startUI serves the Web UI and returns when it answers. The caller has seen to it that the port is free: the UI's server
// ends the process when it is not.
func startUI(ctx context.Context, port int, temporal string) (*ui, error) {
	u := &ui{server: server.NewServer(server_options.WithConfigProvider(&config.Config{
		Host:                loopback.Host,
		Port:                port,
		TemporalGRPCAddress: temporal,
		EnableUI:            true,
		DefaultNamespace:    Namespace,
		DisableNewsFetch:    true,
		HideLogs:            true,
		CORS:                config.CORS{CookieInsecure: true}, // plain HTTP on loopback
	}))}
	go func() { _ = u.server.Start() }()

	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+loopback.Address(port)+"/healthz", nil)
		if err != nil {
			return nil, fmt.Errorf("ask Temporal Web UI: %w", err)
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = response.Body.Close()
			return u, nil
		}
		select {
		case <-ctx.Done():
			u.stop()
			return nil, fmt.Errorf("wait for Temporal Web UI: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (u *ui) stop() { u.server.Stop() }
