package pocketlm

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	openai "github.com/sashabaranov/go-openai"
	"github.com/stretchr/testify/require"
)

const childDir = "POCKETLM_TEST_CHILD_DIR"

// TestMain is also the server that the kill test kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		s, err := Open(Options{Dir: dir, Faults: Faults{TrainingTime: 300, BatchTime: 400}})
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			os.Exit(1)
		}
		fmt.Println("http://" + ln.Addr().String())
		s.Serve(context.Background(), ln) //nolint:errcheck // it is killed
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func child(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$") //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() }) //nolint:errcheck // mostly gone already
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	line = strings.TrimSpace(line)
	require.True(t, strings.HasPrefix(line, "http://"), line)
	return cmd, line
}

func clientOf(url string) *openai.Client {
	cfg := openai.DefaultConfig("")
	cfg.BaseURL = url + "/v1"
	return openai.NewClientWithConfig(cfg)
}

// TestKill kills the server again and again under load: every answer that a client got is in the journal, files and jobs
// are still there, and the job and the batch that were running are finished by the servers that come after.
func TestKill(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	cmd, url := child(t, dir)
	c := clientOf(url)
	f, err := c.CreateFileBytes(ctx, openai.FileBytesRequest{Name: "t.jsonl", Bytes: trainingFile(t), Purpose: openai.PurposeFineTune})
	require.NoError(t, err)
	j, err := c.CreateFineTuningJob(ctx, openai.FineTuningJobRequest{TrainingFile: f.ID, Model: BaseModel, Suffix: "kill"})
	require.NoError(t, err)
	var in strings.Builder
	for i := range 40 {
		fmt.Fprintf(&in, `{"custom_id":"r%d","method":"POST","url":"/v1/chat/completions","body":%s}`+"\n", i, strings.Replace(hello(i), "Hello", "Batch", 1))
	}
	bf, err := c.CreateFileBytes(ctx, openai.FileBytesRequest{Name: "b.jsonl", Bytes: []byte(in.String()), Purpose: openai.PurposeBatch})
	require.NoError(t, err)
	b, err := c.CreateBatch(ctx, openai.CreateBatchRequest{InputFileID: bf.ID, Endpoint: openai.BatchEndpointChatCompletions, CompletionWindow: "24h"})
	require.NoError(t, err)

	var got atomic.Int64
	next := atomic.Int64{}
	for round := range 4 {
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					r, _, err := post(t, url+"/v1/chat/completions", hello(int(next.Add(1))))
					if err != nil {
						return
					}
					if r.StatusCode == http.StatusOK {
						got.Add(1)
					}
				}
			})
		}
		time.Sleep(time.Duration(30+rand.IntN(60)) * time.Millisecond) //nolint:gosec // any moment will do
		require.NoError(t, cmd.Process.Kill())
		cmd.Wait() //nolint:errcheck // killed
		close(stop)
		wg.Wait()
		if round == 1 { // a torn line, as a power cut leaves it
			jf, err := os.OpenFile(filepath.Join(dir, journalFile), os.O_APPEND|os.O_WRONLY, 0)
			require.NoError(t, err)
			_, err = jf.WriteString("A\t17000")
			require.NoError(t, err)
			require.NoError(t, jf.Close())
		}
		cmd, url = child(t, dir)
	}
	c = clientOf(url)
	require.Eventually(t, func() bool {
		j, err = c.RetrieveFineTuningJob(ctx, j.ID)
		require.NoError(t, err)
		b, err = c.RetrieveBatch(ctx, b.ID)
		require.NoError(t, err)
		return j.Status == jobSucceeded && b.Status == "completed"
	}, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, 40, b.RequestCounts.Completed)
	before, err := c.CreateChatCompletion(ctx, ask(j.FineTunedModel, "What is a loop?"))
	require.NoError(t, err)
	counts, err := ReadJournal(dir)
	require.NoError(t, err)
	chat := counts.ByRoute[routeChat]
	t.Logf("answers received by clients %d, in the journal %d answered and %d received; batch items answered %d", got.Load(), chat.Answered-1, chat.Received-1, counts.ByRoute["batch:chat.completions"].Answered)
	require.GreaterOrEqual(t, chat.Answered-1, got.Load(), "no answer left without its note")
	require.LessOrEqual(t, chat.Answered-1, got.Load()+4*4, "beyond those in flight at the kills")
	require.Zero(t, chat.Repeated)
	require.LessOrEqual(t, counts.ByRoute["batch:chat.completions"].Repeated, int64(4), "one item in flight at each kill")

	require.NoError(t, cmd.Process.Kill())
	cmd.Wait() //nolint:errcheck // killed
	_, url = child(t, dir)
	after, err := clientOf(url).CreateChatCompletion(ctx, ask(j.FineTunedModel, "What is a loop?"))
	require.NoError(t, err)
	require.Equal(t, before.Choices, after.Choices, "the model is the same after a restart")
}

func TestFolderIsLocked(t *testing.T) {
	t.Parallel()
	s, _, _ := setup(t, Options{})
	_, err := Open(Options{Dir: s.opt.Dir})
	require.ErrorContains(t, err, "is used by another pocketlm")
}
