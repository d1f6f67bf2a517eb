package command

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/selfalign/selfalign/internal/finetune"
)

// Service is a program that runs on until it is told to stop, under the same rules as a trainer: a session and process group
// of its own, no keys in its environment but those named, adopted by whoever looks after the one that started it died, and
// never started twice.
type Service struct {
	f   folder
	cfg Config
}

// OpenService returns the service that lives in a folder, which is made. Of cfg, Env, WorkDir and Grace count.
func OpenService(dir string, cfg Config) (*Service, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make folder of service: %w", err)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("folder of service: %w", err)
	}
	if cfg.Grace <= 0 {
		cfg.Grace = 10 * time.Second
	}
	return &Service{folder(abs), cfg}, nil
}

// Start starts the program unless it runs. args are its name and arguments; env is set besides what Config.Env names.
func (s *Service) Start(ctx context.Context, args, env []string) error {
	unlock, err := s.f.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	b := &Backend{cfg: s.cfg}
	return b.launch(s.f, func() ([]string, []string, error) { return args, append(b.environment(os.Environ()), env...), nil })
}

// Alive reports whether the program runs. code is its exit code where it ended by itself.
func (s *Service) Alive(ctx context.Context) (alive bool, code int, exited bool, err error) {
	unlock, err := s.f.lock(ctx)
	if err != nil {
		return false, 0, false, err
	}
	defer unlock()
	if s.f.alive() {
		return true, 0, false, nil
	}
	code, exited = s.f.exit()
	return false, code, exited, nil
}

// Stop ends the program and all of its group: TERM, and KILL after the grace. It is no error when none runs.
func (s *Service) Stop(ctx context.Context) error {
	began := time.Now()
	for {
		gone, err := s.stopStep(ctx, began)
		if err != nil || gone {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stop service: %w", ctx.Err())
		case <-time.After(25 * time.Millisecond):
		}
	}
}

func (s *Service) stopStep(ctx context.Context, began time.Time) (gone bool, err error) {
	unlock, err := s.f.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	if !s.f.alive() {
		return true, nil
	}
	sig := termSignal
	if time.Since(began) > s.cfg.Grace {
		sig = killSignal
	}
	s.f.signal(sig)
	return false, nil
}

// LastWords returns the end of what the program wrote to standard error, or to its output, without the values of variables
// that look like secrets.
func (s *Service) LastWords() string {
	words := s.f.tail(fileStderr)
	if words == "" {
		words = s.f.tail(fileStdout)
	}
	return finetune.Clip((&Backend{cfg: s.cfg}).hide(words))
}
