package devstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	sdklog "go.temporal.io/sdk/log"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/selfalign/selfalign/internal/devstack/child"
	"github.com/selfalign/selfalign/internal/devstack/loopback"
	"github.com/selfalign/selfalign/internal/devstack/programs"
)

const namespace = "default"

// retention of closed workflows: a run of days should still be there to look at after the holidays.
const retention = 90 * 24 * time.Hour

// attributes are the search attributes that runs set.
var attributes = map[string]enumspb.IndexedValueType{
	"SelfalignRun":       enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	"SelfalignStage":     enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	"SelfalignIteration": enumspb.INDEXED_VALUE_TYPE_INT,
	"SelfalignModel":     enumspb.INDEXED_VALUE_TYPE_KEYWORD,
}

// startTemporal takes the Temporal it is given, else the command on PATH, else our own.
func (s *Stack) startTemporal(ctx context.Context) error {
	if given := temporalGiven(s.options); given != "" {
		return s.useTemporal(ctx, given)
	}
	port, err := loopback.Resolve("Temporal", s.options.Ports.Temporal)
	if err != nil {
		return err
	}
	uiPort := 0
	if !s.options.NoUI {
		if uiPort, err = loopback.Resolve("Temporal Web UI", s.options.Ports.UI); err != nil {
			return err
		}
	}
	if command := temporalCommand(); command != "" && !s.options.Embedded {
		return s.startCLI(ctx, command, port, uiPort)
	}
	return s.startEmbedded(ctx, port, uiPort)
}

// temporalGiven is the address of a Temporal that is there; "" if none was given.
func temporalGiven(o Options) string {
	if o.TemporalAddress != "" {
		return o.TemporalAddress
	}
	return os.Getenv("TEMPORAL_ADDRESS")
}

// temporalCommand is the path of the temporal command; "" if there is none.
func temporalCommand() string {
	path, err := exec.LookPath("temporal")
	if err != nil {
		return ""
	}
	return path
}

// useTemporal checks that the service answers. Search attributes are registered if it lets us; runs go on without them.
func (s *Stack) useTemporal(ctx context.Context, address string) error {
	s.TemporalAddress, s.TemporalGiven, s.TemporalKind = address, true, "the Temporal service at "+address
	if env := os.Getenv("TEMPORAL_NAMESPACE"); env != "" {
		s.Namespace = env
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if _, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: s.Namespace}); err != nil {
		return fmt.Errorf("ask Temporal at %s for namespace %s: %w. Try: unset TEMPORAL_ADDRESS to have one started here", address, s.Namespace, err)
	}
	if err := s.register(ctx, c); err != nil {
		s.options.Notify(fmt.Sprintf("search attributes were not registered, so runs are not found by stage or model: %v", err))
	}
	return nil
}

// startEmbedded serves our own Temporal.
func (s *Stack) startEmbedded(ctx context.Context, port, uiPort int) error {
	binary, err := s.program(ctx, programs.Temporald)
	if err != nil {
		return err
	}
	command := []string{binary, "-dir", filepath.Join(s.options.Dir, "temporal"), "-port", strconv.Itoa(port)}
	if uiPort != 0 {
		command = append(command, "-ui", "-ui-port", strconv.Itoa(uiPort))
	}
	k, err := s.keep(ctx, ServiceTemporal, child.Spec{
		Name: "Temporal", Command: command,
		Log: filepath.Join(s.options.Dir, "logs", "temporald.log"), Ready: 90 * time.Second,
	})
	if err != nil {
		return err
	}
	var ready struct{ Address, UI string }
	if err := json.Unmarshal(k.Process().Ready(), &ready); err != nil {
		return fmt.Errorf("read ready line of temporald: %w", err)
	}
	s.TemporalAddress, s.UIURL, s.TemporalKind = ready.Address, ready.UI, "our own Temporal"
	return s.settle(ctx)
}

// startCLI serves the Temporal of the temporal command. It does not leave when its standard input closes, so a guard sees to that.
func (s *Stack) startCLI(ctx context.Context, command string, port, uiPort int) error {
	guard, err := s.program(ctx, programs.Localstack)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.options.Dir, "temporal")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	args := []string{
		guard, "-guard", "-dir", dir, "--", command, "server", "start-dev",
		"--db-filename", filepath.Join(dir, "temporal-cli.db"), "--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=1",
		"--ip", loopback.Host, "--port", strconv.Itoa(port), "--namespace", namespace, "--log-level", "error",
		"--dynamic-config-value", "history.transferProcessorMaxPollRPS=2000",
		"--dynamic-config-value", "history.timerProcessorMaxPollRPS=2000",
		"--dynamic-config-value", "history.visibilityProcessorMaxPollRPS=2000",
	}
	if uiPort != 0 {
		args = append(args, "--ui-ip", loopback.Host, "--ui-port", strconv.Itoa(uiPort))
		s.UIURL = "http://" + loopback.Address(uiPort)
	} else {
		args = append(args, "--headless")
	}
	k, err := s.keep(ctx, ServiceTemporal, child.Spec{
		Name: "Temporal", Command: args,
		Log: filepath.Join(s.options.Dir, "logs", "temporal-cli.log"), Ready: 10 * time.Second,
	})
	if err != nil {
		return err
	}
	s.TemporalAddress, s.TemporalKind = loopback.Address(port), "the Temporal of "+command
	if err := s.settle(ctx); err != nil {
		select {
		case <-k.Process().Done():
			return errors.Join(err, k.Process().Err())
		default:
			return err
		}
	}
	return nil
}

// settle waits until our Temporal answers and gives it what runs need: a long retention and the search attributes.
func (s *Stack) settle(ctx context.Context) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	var described *workflowservice.DescribeNamespaceResponse
	for {
		if described, err = c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: s.Namespace}); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for Temporal: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
	if described.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration() < retention {
		_, err := c.WorkflowService().UpdateNamespace(ctx, &workflowservice.UpdateNamespaceRequest{
			Namespace: s.Namespace,
			Config:    &namespacepb.NamespaceConfig{WorkflowExecutionRetentionTtl: durationpb.New(retention)},
		})
		if err != nil {
			return fmt.Errorf("set retention: %w", err)
		}
	}
	return s.register(ctx, c)
}

// register makes the search attributes that are missing.
func (s *Stack) register(ctx context.Context, c client.Client) error {
	have, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: s.Namespace})
	if err != nil {
		return fmt.Errorf("list search attributes: %w", err)
	}
	missing := maps.Clone(attributes)
	maps.DeleteFunc(missing, func(name string, _ enumspb.IndexedValueType) bool {
		_, ok := have.GetCustomAttributes()[name]
		return ok
	})
	if len(missing) == 0 {
		return nil
	}
	_, err = c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{
		Namespace: s.Namespace, SearchAttributes: missing,
	})
	if err != nil {
		return fmt.Errorf("register search attributes: %w", err)
	}
	return nil
}

// client dials the Temporal in use: a given one with what Temporal's environment variables and profile say, our own with
// nothing but its address.
func (s *Stack) client() (client.Client, error) {
	options := client.Options{}
	if s.TemporalGiven {
		var err error
		if options, err = envconfig.LoadDefaultClientOptions(); err != nil {
			return nil, fmt.Errorf("read Temporal's environment and profile: %w", err)
		}
	}
	options.HostPort, options.Namespace = s.TemporalAddress, s.Namespace
	options.Logger = sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler))
	c, err := client.NewLazyClient(options)
	if err != nil {
		return nil, fmt.Errorf("connect to Temporal: %w", err)
	}
	return c, nil
}
