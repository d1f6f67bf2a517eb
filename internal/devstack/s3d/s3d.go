// Package s3d serves a folder as S3 on one address, and what it acknowledged is there after kill -9.
package s3d

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3api"
	"github.com/versity/versitygw/s3api/middlewares"

	"github.com/selfalign/selfalign/internal/devstack/loopback"
)

// Region is the region that requests are signed for.
const Region = "us-east-1"

const (
	readyPath    = "/-/ready" // "-" is no valid bucket name, so nothing is hidden behind it
	readyTimeout = 10 * time.Second
	drain        = 500 * time.Millisecond // for requests in work when the server stops
	connections  = 4096
)

// Options say what to serve where.
type Options struct {
	Dir       string // created where it is missing; must lie on a file system with extended attributes (ext4, xfs, btrfs, APFS)
	Addr      string // host:port; port 0 takes a free one; "" is a free one of 127.0.0.1
	AccessKey string // required
	SecretKey string // required
	NoSync    bool   // leave it to the operating system when to write to disk: safe against kill -9, not against power loss
}

// Server is a running S3 server.
type Server struct {
	dir     string
	addr    string
	lock    *os.File
	posix   *posix.Posix
	backend *folders
	api     *s3api.S3ApiServer
	app     atomic.Pointer[fiber.App]
	access  string
	done    chan error
	once    sync.Once
	err     error
}

// Start serves opts.Dir until Stop. It returns once requests are answered. A folder that another server has open
// and an address that is taken are errors.
func Start(ctx context.Context, opts Options) (*Server, error) {
	if opts.AccessKey == "" || opts.SecretKey == "" {
		return nil, errors.New("start S3 server: no access key or secret key given")
	}
	if opts.Dir == "" {
		return nil, errors.New("start S3 server: no folder given")
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("start S3 server: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("start S3 server: %w", err)
	}
	if err := (meta.XattrMeta{}).Test(dir); err != nil {
		return nil, fmt.Errorf("start S3 server: folder %s has no extended attributes, which hold what S3 knows of an object: %w. Try: another disk", dir, err)
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, fmt.Errorf("start S3 server: %w", err)
	}
	s := &Server{dir: dir, lock: lock, access: opts.AccessKey, done: make(chan error, 1)}
	if err := s.start(ctx, opts); err != nil {
		lock.Close()
		return nil, fmt.Errorf("start S3 server: %w", err)
	}
	return s, nil
}

func (s *Server) start(ctx context.Context, opts Options) error {
	// "." leaves the process where it is; see folders. The folder's lock makes this process its only server, so
	// the backend's own lock files are not needed.
	p, err := posix.New(".", meta.XattrMeta{}, posix.PosixOpts{ForceNoObjLockFile: true})
	if err != nil {
		return fmt.Errorf("open backend: %w", err)
	}
	s.posix = p
	s.backend = &folders{posix: p, root: s.dir, sync: !opts.NoSync}
	addr, err := reserve(opts.Addr)
	if err != nil {
		p.Shutdown()
		return err
	}
	s.addr = addr
	root := auth.Account{Access: opts.AccessKey, Secret: opts.SecretKey, Role: auth.RoleAdmin}
	s.api, err = s3api.New(s.backend, middlewares.RootUserConfig{Access: opts.AccessKey, Secret: opts.SecretKey}, Region,
		auth.NewIAMServiceSingle(root), nil, nil, nil, nil,
		s3api.WithQuiet(), s3api.WithKeepAlive(), s3api.WithConcurrencyLimiter(connections, connections),
		s3api.WithMpMaxParts(10_000),
		s3api.WithRoute(http.MethodGet, readyPath, func(c fiber.Ctx) error {
			s.app.Store(c.App()) // the only way to it; Stop needs it
			return c.SendStatus(http.StatusNoContent)
		}))
	if err != nil {
		p.Shutdown()
		return fmt.Errorf("build server: %w", err)
	}
	go func() { s.done <- s.api.ServeMultiPort([]string{s.addr}) }()
	if err := s.ready(ctx); err != nil {
		return errors.Join(err, s.Stop())
	}
	return nil
}

// reserve finds the port and says in plain words when it is taken.
func reserve(addr string) (string, error) {
	if addr == "" {
		port, err := loopback.FreeHere() // not one that the system gives to somebody else before the server listens
		return loopback.Address(port), err
	}
	if strings.HasPrefix(addr, ":") {
		addr = loopback.Host + addr
	}
	ln, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return "", fmt.Errorf("address %s is taken by another program. Try: another port, or stop that program", addr)
	}
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// ready asks until the server answers.
func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+readyPath, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
			if s.app.Load() != nil {
				return nil
			}
			err = fmt.Errorf("another server answered with %s", resp.Status)
		}
		select {
		case serveErr := <-s.done:
			s.done <- serveErr
			return fmt.Errorf("listen on %s: %w", s.addr, serveErr)
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", s.addr, errors.Join(ctx.Err(), err))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Addr returns the address that the server listens on, as host:port.
func (s *Server) Addr() string { return s.addr }

// URL returns the base URL of the server.
func (s *Server) URL() string { return "http://" + s.addr }

// Stop ends the server: requests in work get half a second, idle connections none. The folder stays. A second
// call returns what the first did.
func (s *Server) Stop() error {
	s.once.Do(func() { s.err = s.stop() })
	return s.err
}

func (s *Server) stop() error {
	if app := s.app.Load(); app != nil {
		// A timeout is no error: connections that never sent a request count as in work.
		_ = app.ShutdownWithTimeout(drain)
		<-s.done //nolint:errcheck // it says that the listener was closed
	} else {
		_ = s.api.ShutDown() // it never answered
	}
	s.posix.Shutdown()
	if err := s.lock.Close(); err != nil {
		return fmt.Errorf("stop S3 server: %w", err)
	}
	return nil
}
