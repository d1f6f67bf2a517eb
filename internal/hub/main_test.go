package hub_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/selfalign/selfalign/internal/hub"
	"github.com/selfalign/selfalign/internal/hub/hubtest"
)

const (
	secret = "hf_SecretTokenThatNobodyMaySee"
	reader = "hf_ReadOnly"
)

// TestMain turns the test binary into a pushing process where a test wants one to kill, or into a server to try other
// clients on by hand.
func TestMain(m *testing.M) {
	switch os.Getenv("HUB_TEST_CHILD") {
	case "push":
		os.Exit(pushChild(os.Getenv("HUB_TEST_ENDPOINT")))
	case "serve":
		os.Exit(serveChild())
	}
	os.Exit(m.Run())
}

func serveChild() int {
	s, err := hubtest.Start(hubtest.Options{PageSize: 3, PartSize: 64 << 10, Addr: os.Getenv("HUB_TEST_ADDR")})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s.AddToken(secret, hubtest.Account{User: "ann", Write: true})
	fmt.Println(s.URL())
	_, _ = io.Copy(io.Discard, os.Stdin)
	for _, r := range s.Requests() {
		fmt.Fprintln(os.Stderr, r.Method, r.Path, r.Range, r.Status)
	}
	return 0
}

// server starts a Hub with the account ann (secret) and a reader bob.
func server(t testing.TB, opt hubtest.Options) *hubtest.Server {
	t.Helper()
	s, err := hubtest.Start(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	s.AddToken(secret, hubtest.Account{User: "ann", Write: true})
	s.AddToken(reader, hubtest.Account{User: "bob"})
	return s
}

func client(t testing.TB, s *hubtest.Server, token string) *hub.Client {
	t.Helper()
	return clientWith(t, hub.Options{Endpoint: s.URL(), Token: func() string { return token }})
}

func clientWith(t testing.TB, opt hub.Options) *hub.Client {
	t.Helper()
	if opt.Backoff == 0 {
		opt.Backoff = time.Millisecond
	}
	c, err := hub.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type pair struct {
	Prompt     string  `parquet:"prompt"`
	Completion *string `parquet:"completion,optional"`
	Score      float64 `parquet:"score"`
}

// pairs writes a Parquet file of n rows.
func pairs(t testing.TB, n int, seed uint64) []byte {
	t.Helper()
	b, err := pairsFile(n, seed)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func pairsFile(n int, seed uint64) ([]byte, error) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	rows := make([]pair, n)
	for i := range rows {
		text := fmt.Sprintf("answer %d of %d: %s", i, seed, strings.Repeat("x", rnd.IntN(50)))
		rows[i] = pair{Prompt: fmt.Sprintf("prompt %d of %d %x", i, seed, rnd.Uint64()), Completion: &text, Score: float64(i%5) + 0.5}
		if i%7 == 3 {
			rows[i].Completion = nil
		}
	}
	var b bytes.Buffer
	w := parquet.NewGenericWriter[pair](&b, parquet.MaxRowsPerRowGroup(100), parquet.Compression(&parquet.Zstd))
	if _, err := w.Write(rows); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

var repo = hub.Repo{Owner: "ann", Name: "pairs"}

// noSecret fails when a token or a signed address shows.
func noSecret(t testing.TB, s string) {
	t.Helper()
	if strings.Contains(s, secret) || strings.Contains(s, "Signature=") {
		t.Errorf("shows a secret: %s", s)
	}
}

func collect(t testing.TB, c *hub.Client, table hub.Table, cols hub.Columns) []hub.Row {
	t.Helper()
	var out []hub.Row
	for row, err := range c.Rows(context.Background(), table, cols) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, row)
	}
	return out
}
