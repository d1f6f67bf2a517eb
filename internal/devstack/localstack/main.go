// Command localstack serves S3 over a folder and the small model server pocketlm on loopback. They share a process of their
// own so that whoever needs them can start them again after any death, and so that tests can kill them. It prints one line
// of JSON when both serve and leaves when its standard input closes.
//
// As localstack -guard [-dir FOLDER] -- PROGRAM ARGS… it serves nothing, holds the folder and ends PROGRAM when its standard
// input closes, for programs that would outlive their parent.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/selfalign/selfalign/internal/devstack/child"
	"github.com/selfalign/selfalign/internal/devstack/folder"
	"github.com/selfalign/selfalign/internal/devstack/loopback"
	"github.com/selfalign/selfalign/internal/devstack/s3d"
	"github.com/selfalign/selfalign/internal/pocketlm"
)

const grace = 10 * time.Second

func main() {
	stdout := os.Stdout
	os.Stdout = os.Stderr // libraries print banners; standard output carries the ready line alone
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, stdout, os.Stderr))
}

type settings struct {
	dir, bucket                    string
	s3Port, modelPort              int
	accessEnv, secretEnv, modelEnv string
	guard                          bool
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var s settings
	flags := flag.NewFlagSet("localstack", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.dir, "dir", "", "data folder")
	flags.StringVar(&s.bucket, "bucket", "selfalign", "bucket that is made")
	flags.IntVar(&s.s3Port, "s3-port", 0, "port of S3; 0: a free one")
	flags.IntVar(&s.modelPort, "model-port", 0, "port of the model server; 0: a free one")
	flags.StringVar(&s.accessEnv, "access-key-env", "", "environment variable with the access key of S3")
	flags.StringVar(&s.secretEnv, "secret-key-env", "", "environment variable with the secret key of S3")
	flags.StringVar(&s.modelEnv, "model-key-env", "", "environment variable with the key of the model server; none: no key is asked for")
	flags.BoolVar(&s.guard, "guard", false, "run the program that follows and end it when standard input closes")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	ctx, down := child.Life(ctx, stdin, grace)
	defer down()
	if s.guard {
		if s.dir != "" {
			lock, err := folder.Acquire(s.dir, filepath.Base(s.dir))
			if err != nil {
				fmt.Fprintf(stderr, "localstack: %v\n", err)
				return child.Refused
			}
			defer func() { _ = lock.Release() }()
		}
		return guard(ctx, flags.Args(), stdout, stderr)
	}
	if s.dir == "" || flags.NArg() > 0 {
		fmt.Fprintln(stderr, "localstack: -dir is missing, or there are arguments beyond the flags")
		return 2
	}
	if err := serve(ctx, s, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "localstack: %v\n", err)
		if errors.Is(err, folder.ErrLocked) || errors.Is(err, loopback.ErrTaken) {
			return child.Refused
		}
		return 1
	}
	return 0
}

func serve(ctx context.Context, s settings, stdout, stderr io.Writer) (err error) {
	dir, err := filepath.Abs(s.dir)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	lock, err := folder.Acquire(dir, "localstack")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	if s.s3Port, err = loopback.Resolve("S3", s.s3Port); err != nil {
		return err
	}
	if s.modelPort, err = loopback.Resolve("model server", s.modelPort); err != nil {
		return err
	}

	s3, err := s3d.Start(ctx, s3d.Options{
		Dir: filepath.Join(dir, "s3"), Addr: loopback.Address(s.s3Port),
		AccessKey: os.Getenv(s.accessEnv), SecretKey: os.Getenv(s.secretEnv),
	})
	if err != nil {
		return err
	}
	defer func() {
		if err := s3.Stop(); err != nil { // what was acknowledged is on disk: nothing to fail for
			fmt.Fprintf(stderr, "localstack: %v\n", err)
		}
	}()
	if err := s3.CreateBucket(ctx, s.bucket); err != nil {
		return err
	}

	model, err := pocketlm.Open(pocketlm.Options{
		Dir: filepath.Join(dir, "pocketlm"), Key: os.Getenv(s.modelEnv),
		Log: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	listener, err := net.Listen("tcp", loopback.Address(s.modelPort))
	if err != nil {
		return fmt.Errorf("model server: %w", err)
	}
	if err := child.Ready(stdout, map[string]string{"s3": s3.URL(), "model": "http://" + loopback.Address(s.modelPort)}); err != nil {
		return err
	}
	return model.Serve(ctx, listener) // until the context ends; S3 goes last
}
