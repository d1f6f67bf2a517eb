package stage

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/llm"
)

// BenchmarkRate rates b.N rows in partitions of 4,096 against an endpoint of no latency in this process, the S3 server too.
func BenchmarkRate(b *testing.B) {
	const answer = `{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"The answer is complete, clear and to the point, though one might wish for an example.\nScore: 4"},"finish_reason":"stop"}],"usage":{"prompt_tokens":700,"completion_tokens":20,"total_tokens":720}}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			b.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, answer)
	}))
	defer server.Close()
	bench := &bench{t: b, st: s3test.Store(b)}
	bench.deps = Deps{Store: bench.st, Models: llm.NewPool(map[string]llm.Provider{"p": {URL: server.URL + "/v1", Limits: llm.Limits{InFlight: 64}}})}
	bits := dataset.BitsFor(int64(b.N), 4096, 0)
	bench.in = bench.segments("segments", b.N, bits)
	bench.candidates("candidates", b.N, bits)
	w := bench.rate("candidates", "ratings")
	w.InFlight = 32
	b.ReportAllocs()
	b.ResetTimer()
	for p := range bench.in.Partitions() {
		w.Partition = p
		r, err := Run(context.Background(), bench.deps, w, nil)
		if err != nil || !r.Done {
			b.Fatalf("%+v, %v", r, err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

func (b *bench) candidates(dir string, rows, bits int) {
	b.t.Helper()
	parts := make([][]dataset.Candidate, 1<<bits)
	for _, s := range segments(rows) {
		p := dataset.PartitionOf(s.ID, bits)
		parts[p] = append(parts[p], dataset.Candidate{ID: s.ID, Instruction: "What is this about?", Output: s.Text, Generator: "g", Prompt: "p"})
	}
	for p, rows := range parts {
		if _, err := dataset.WritePartition(b.t.Context(), b.st, dir, bits, p, rows, nil, dataset.Receipt{Input: int64(len(rows))}); err != nil {
			b.t.Fatal(err)
		}
	}
}
