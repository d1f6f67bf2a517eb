package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/devstack/child"
	"github.com/selfalign/selfalign/internal/devstack/loopback"
	"github.com/selfalign/selfalign/internal/devstack/s3d"
	"github.com/selfalign/selfalign/internal/pocketlm"
)

// Names under which this program starts itself.
const (
	refereeChild = "_referee"
	s3Child      = "_s3"
)

// Keys of the S3 server, which serves this machine alone for as long as the benchmark takes.
const (
	accessEnv = "SELFALIGN_BENCH_ACCESS_KEY"
	secretEnv = "SELFALIGN_BENCH_SECRET_KEY"
	bucket    = "bench"
)

const startWait = 30 * time.Second

// serviceFlags are those of both children.
func serviceFlags(name string, args []string) (dir string, port int, err error) {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.StringVar(&dir, "dir", "", "data folder")
	flags.IntVar(&port, "port", 0, "port")
	return dir, port, parse(flags, args)
}

// refereeMain serves the referee until standard input closes.
func refereeMain(ctx context.Context, args []string, stdout, _ io.Writer) (err error) {
	dir, port, err := serviceFlags(refereeChild, args)
	if err != nil {
		return err
	}
	ctx, down := child.Life(ctx, os.Stdin, 10*time.Second)
	defer down()
	s, err := pocketlm.Open(pocketlm.Options{Dir: dir, Faults: pocketlm.Faults{Canned: true}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	listener, err := net.Listen("tcp", loopback.Address(port)) //nolint:noctx // lives as long as the process
	if err != nil {
		return err
	}
	stop, err := profileChild("referee")
	if err != nil {
		return err
	}
	defer stop() //nolint:errcheck // a profile that could not be written is missed by whoever asked for it
	if err := child.Ready(stdout, "http://"+listener.Addr().String()); err != nil {
		return err
	}
	return s.Serve(ctx, listener)
}

// s3Main serves S3 until standard input closes.
func s3Main(ctx context.Context, args []string, stdout, _ io.Writer) (err error) {
	dir, port, err := serviceFlags(s3Child, args)
	if err != nil {
		return err
	}
	os.Stdout = os.Stderr // libraries print banners; standard output carries the ready line alone
	ctx, down := child.Life(ctx, os.Stdin, 10*time.Second)
	defer down()
	s, err := s3d.Start(ctx, s3d.Options{Dir: dir, Addr: loopback.Address(port), AccessKey: os.Getenv(accessEnv), SecretKey: os.Getenv(secretEnv)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	if err := s.CreateBucket(ctx, bucket); err != nil {
		return err
	}
	stop, err := profileChild("s3")
	if err != nil {
		return err
	}
	defer stop() //nolint:errcheck // a profile that could not be written is missed by whoever asked for it
	if err := child.Ready(stdout, s.URL()); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// service is a child that says its address when it is ready.
type service struct {
	keeper *child.Keeper
	url    string
}

func (s *service) pid() int { return s.keeper.Process().Pid() }

// startService starts this program as one of its children.
func startService(ctx context.Context, name, dir string, env ...string) (*service, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	port, err := loopback.Resolve(name, 0)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, name)
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	keeper, err := child.Keep(ctx, child.Spec{
		Name: name, Command: []string{self, name, "-dir", data, "-port", strconv.Itoa(port)}, Env: env,
		Log: filepath.Join(dir, name+".log"), Ready: startWait,
	}, nil)
	if err != nil {
		return nil, err
	}
	s := &service{keeper: keeper}
	if err := json.Unmarshal(keeper.Process().Ready(), &s.url); err != nil {
		keeper.Stop(time.Second)
		return nil, fmt.Errorf("read ready line of %s: %w", name, err)
	}
	return s, nil
}

func (s *service) stop() { s.keeper.Stop(10 * time.Second) }

// startS3 starts the S3 server and opens its bucket.
func startS3(ctx context.Context, dir string) (*service, *blob.Store, error) {
	for _, name := range []string{accessEnv, secretEnv} {
		if err := os.Setenv(name, "bench-bench-bench-bench"); err != nil {
			return nil, nil, err
		}
	}
	s, err := startService(ctx, s3Child, dir)
	if err != nil {
		return nil, nil, err
	}
	st, err := blob.Open(ctx, blob.Config{Bucket: bucket, Endpoint: s.url, Region: s3d.Region, PathStyle: true, AccessKeyEnv: accessEnv, SecretKeyEnv: secretEnv})
	if err != nil {
		s.stop()
		return nil, nil, err
	}
	return s, st, nil
}
