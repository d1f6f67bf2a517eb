// Package embedded serves Temporal and its Web UI in this process, on loopback, from one database file that survives kill -9.
//
// Linking it makes a binary of 200 MB and minutes of build; nothing but the program temporald and its tests should.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/log/tag"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"

	"github.com/selfalign/selfalign/internal/devstack/folder"
	"github.com/selfalign/selfalign/internal/devstack/loopback"
)

// Namespace is the one that is made.
const Namespace = "default"

const clusterName = "active"

// Options say where and how to serve.
type Options struct {
	// Dir holds the database and the log. One process at a time may use it.
	Dir string
	// Port of the service; 0: a free one.
	Port int
	// UI serves the Web UI on UIPort; 0: a free one.
	UI     bool
	UIPort int
	// Retention of closed workflows in a new database; 0: 90 days.
	Retention time.Duration
	// Attributes are the custom search attributes of a new database.
	Attributes map[string]enumspb.IndexedValueType
	// LogLevel is the least level written to temporal.log; "": warn.
	LogLevel string
}

// Server is a Temporal service.
type Server struct {
	address, uiURL string
	lock           *folder.Lock
	temporal       temporal.Server
	ui             *ui
}

// Start serves and returns when workflows can be started. Errors: folder.ErrLocked, loopback.ErrTaken, ErrVersion.
func Start(ctx context.Context, o Options) (_ *Server, err error) {
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if o.Retention == 0 {
		o.Retention = 90 * 24 * time.Hour
	}
	s := &Server{}
	if s.lock, err = folder.Acquire(o.Dir, "temporal"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()
	if o.Port, err = loopback.Resolve("Temporal", o.Port); err != nil {
		return nil, err
	}
	if o.UI {
		if o.UIPort, err = loopback.Resolve("Temporal Web UI", o.UIPort); err != nil {
			return nil, err
		}
	}
	database := filepath.Join(o.Dir, "temporal.db")
	if err := prepare(ctx, database, o.Retention, o.Attributes); err != nil {
		return nil, err
	}
	if err := s.startTemporal(o, database); err != nil {
		return nil, err
	}
	s.address = loopback.Address(o.Port)
	if err := awaitService(ctx, s.address); err != nil {
		return nil, err
	}
	if o.UI {
		if s.ui, err = startUI(ctx, o.UIPort, s.address); err != nil {
			return nil, err
		}
		s.uiURL = "http://" + loopback.Address(o.UIPort)
	}
	return s, nil
}

// Address is the host and port of the service.
func (s *Server) Address() string { return s.address }

// UIURL is the address of the Web UI; "" if it is not served.
func (s *Server) UIURL() string { return s.uiURL }

// Stop ends the service. Killing the process instead loses nothing that a client was told.
func (s *Server) Stop() {
	if s.ui != nil {
		s.ui.stop()
	}
	if s.temporal != nil {
		_ = s.temporal.Stop()
	}
	_ = s.lock.Release()
}

func (s *Server) startTemporal(o Options, database string) error {
	level := o.LogLevel
	if level == "" {
		level = "warn"
	}
	logFile := filepath.Join(o.Dir, "temporal.log")
	if info, err := os.Stat(logFile); err == nil && info.Size() > 32<<20 {
		if err := os.Rename(logFile, logFile+".old"); err != nil {
			return fmt.Errorf("put log aside: %w", err)
		}
	}
	cfg, err := settings(o.Port, database)
	if err != nil {
		return err
	}
	hosts := map[primitives.ServiceName]static.Hosts{}
	for name, service := range cfg.Services {
		hosts[primitives.ServiceName(name)] = static.SingleLocalHost(loopback.Address(service.RPC.GRPCPort))
	}
	server, err := temporal.NewServer(
		temporal.WithConfig(cfg),
		temporal.ForServices(temporal.DefaultServices),
		temporal.WithStaticHosts(hosts),
		temporal.WithLogger(teller{log.NewZapLogger(log.BuildZapLogger(log.Config{Level: level, OutputFile: logFile}))}),
		temporal.WithAuthorizer(authorization.NewNoopAuthorizer()),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return authorization.NewNoopClaimMapper() }),
		temporal.WithDynamicConfigClient(dynamic),
	)
	if err != nil {
		return fmt.Errorf("set up Temporal: %w", err)
	}
	if err := server.Start(); err != nil {
		return fmt.Errorf("start Temporal: %w", err)
	}
	s.temporal = server
	return nil
}

// settings are those of one process that serves everything. One history shard is enough for one process.
func settings(port int, database string) (*config.Config, error) {
	cfg := &config.Config{
		Persistence: config.Persistence{
			DefaultStore:     sqlite.PluginName,
			VisibilityStore:  sqlite.PluginName,
			NumHistoryShards: 1,
			DataStores:       map[string]config.DataStore{sqlite.PluginName: {SQL: connection(database)}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10,
			MasterClusterName:        clusterName,
			CurrentClusterName:       clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{
				clusterName: {Enabled: true, InitialFailoverVersion: 1, RPCAddress: loopback.Address(port)},
			},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		Services:            map[string]config.Service{},
		Archival: config.Archival{
			History:    config.HistoryArchival{State: config.ArchivalDisabled},
			Visibility: config.VisibilityArchival{State: config.ArchivalDisabled},
		},
		NamespaceDefaults: config.NamespaceDefaults{Archival: config.ArchivalNamespaceDefaults{
			History:    config.HistoryArchivalNamespaceDefaults{State: config.ArchivalDisabled},
			Visibility: config.VisibilityArchivalNamespaceDefaults{State: config.ArchivalDisabled},
		}},
		PublicClient: config.PublicClient{HostPort: loopback.Address(port)},
	}
	cfg.Global.Membership = config.Membership{MaxJoinDuration: 30 * time.Second, BroadcastAddress: loopback.Host}
	for _, name := range temporal.DefaultServices {
		rpc := config.RPC{GRPCPort: port, BindOnIP: loopback.Host}
		if name != string(primitives.FrontendService) {
			var err error
			if rpc.GRPCPort, err = loopback.Free(); err != nil {
				return nil, err
			}
		}
		cfg.Services[name] = config.Service{RPC: rpc}
	}
	return cfg, nil
}

// dynamic holds what differs from the server's defaults. The defaults of the rates protect a shared cluster; here they
// would only make the one user wait (sequential steps: 21 a second become 88).
var dynamic = dynamicconfig.StaticClient{
	dynamicconfig.TransferProcessorMaxPollRPS.Key():                  2000,
	dynamicconfig.TimerProcessorMaxPollRPS.Key():                     2000,
	dynamicconfig.VisibilityProcessorMaxPollRPS.Key():                2000,
	dynamicconfig.FrontendRPS.Key():                                  100_000,
	dynamicconfig.FrontendMaxNamespaceRPSPerInstance.Key():           100_000,
	dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key(): 1000,
	dynamicconfig.HistoryRPS.Key():                                   100_000,
	dynamicconfig.MatchingRPS.Key():                                  100_000,
	dynamicconfig.FrontendPersistenceMaxQPS.Key():                    100_000,
	dynamicconfig.HistoryPersistenceMaxQPS.Key():                     100_000,
	dynamicconfig.MatchingPersistenceMaxQPS.Key():                    100_000,
	dynamicconfig.MatchingNumTaskqueueReadPartitions.Key():           1,
	dynamicconfig.MatchingNumTaskqueueWritePartitions.Key():          1,
	dynamicconfig.MatchingEnableFairness.Key():                       true,
	dynamicconfig.EnableActivityEagerExecution.Key():                 true,
	dynamicconfig.EnableEagerWorkflowStart.Key():                     true,
	// Freshly registered search attributes are usable at once.
	dynamicconfig.ForceSearchAttributesCacheRefreshOnRead.Key(): true,
	// Nothing here calls home.
	dynamicconfig.EnableServerVersionCheck.Key(): false,
}

// awaitService returns when the namespace answers.
func awaitService(ctx context.Context, address string) error {
	c, err := client.NewLazyClient(client.Options{HostPort: address, Namespace: Namespace, Logger: quiet{}})
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for {
		// Both the frontend and, behind it, history and its shard have to be there.
		_, err = c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: Namespace})
		if err == nil {
			_, err = c.DescribeWorkflowExecution(ctx, "selfalign-probe", "")
			if err == nil || strings.Contains(err.Error(), "not found") {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("wait for Temporal: %w", err), context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// teller logs, and tells on standard error as well why the process ends when the server ends it.
type teller struct{ log.Logger }

// Fatal ends the process.
func (t teller) Fatal(msg string, tags ...tag.Tag) {
	for _, tag := range tags {
		msg += fmt.Sprintf("; %s: %v", tag.Key(), tag.Value())
	}
	fmt.Fprintf(os.Stderr, "temporald: %s\n", msg)
	t.Logger.Fatal(msg)
}

type quiet struct{}

var _ sdklog.Logger = quiet{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}
