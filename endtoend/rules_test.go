package endtoend

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/workflows"
)

// TestModelThatIsNotBetterEndsTheRun spoils what M1 learns from, so that it is truly worse than M0: the gate sees it and ends
// the run before its second iteration, with M1 as its result or with M0, as the policy says.
func TestModelThatIsNotBetterEndsTheRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy, rule string
		result       int // iteration whose model it is
	}{
		{"stop", workflows.EndedPlateau, 1},
		{"rollback", workflows.EndedRollback, 0},
	} {
		t.Run(c.policy, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.work(wiring{model: spoiling(t, l.stack.PocketURL)})
			l.start("iterations=3", "gate={holdout: 12, policy: "+c.policy+", limit: 12, answers: {max_tokens: 64, in_flight: 8}, compare: {max_tokens: 96, in_flight: 8}}")
			seen := l.finished()
			require.Equal(t, c.rule, seen.EndedBy)
			require.Len(t, seen.Sets, 1)
			gate := seen.Sets[0].Gate
			require.NotNil(t, gate)
			require.EqualValues(t, 12, gate.Prompts)
			require.Less(t, gate.High, 0.5, gate.Reason)
			require.Contains(t, seen.Message, gate.Reason)
			require.Equal(t, 3, l.jobs("succeeded"), "the backward model, M0 and M1")
			require.NotNil(t, seen.Result)
			require.Contains(t, seen.Result.Revision, fmt.Sprintf("m%d-", c.result))
			require.NotEmpty(t, l.said(seen.Result.Name), "what the run gives answers")
		})
	}
}

// said is what a model of the model server answers.
func (l *lab) said(model string) string {
	l.t.Helper()
	body := fmt.Sprintf(`{"model": %q, "messages": [{"role": "user", "content": "Name three colours."}]}`, model)
	req, err := http.NewRequestWithContext(l.t.Context(), http.MethodPost, l.stack.PocketURL+"/v1/chat/completions", strings.NewReader(body))
	require.NoError(l.t, err)
	req.Header.Set("Authorization", "Bearer "+l.secrets["model key"])
	resp, err := http.DefaultClient.Do(req)
	require.NoError(l.t, err)
	defer resp.Body.Close()
	var answer struct {
		Choices []struct{ Message struct{ Content string } }
	}
	require.NoError(l.t, json.NewDecoder(resp.Body).Decode(&answer))
	require.Len(l.t, answer.Choices, 1)
	return answer.Choices[0].Message.Content
}

// spoiling is the model server, with all letters of the answers that M1 shall learn replaced by one.
func spoiling(t *testing.T, target string) string {
	t.Helper()
	u, err := url.Parse(target)
	require.NoError(t, err)
	through := httputil.NewSingleHostReverseProxy(u)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == "/v1/files" {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			if bytes.Contains(body, []byte(`filename="`+runName+`-01-m1-`)) {
				body = toBeLearnt.ReplaceAllFunc(body, dull)
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		through.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server.URL
}

var toBeLearnt = regexp.MustCompile(`"role": ?"assistant", ?"content": ?"(?:[^"\\]|\\.)*"`)

// dull replaces the letters of an answer, and keeps its length.
func dull(message []byte) []byte {
	out := bytes.Clone(message)
	for i := bytes.Index(out, []byte(`"content":`)) + len(`"content":`); i < len(out); i++ {
		switch b := out[i]; {
		case b == '\\' && out[i+1] == 'u':
			i += 5
		case b == '\\':
			i++
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z':
			out[i] = 'x'
		}
	}
	return out
}
