package llm

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		body   string
		class  Class
		code   string
		kind   kind
	}{
		// OpenAI
		{400, `{"error":{"message":"This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}`, ClassPermanent, CodeContextLength, kindAnswer},
		{400, `{"error":{"message":"Invalid value","type":"invalid_request_error","param":"temperature","code":null}}`, ClassPermanent, "invalid_request_error", kindAnswer},
		{401, `{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","code":"invalid_api_key"}}`, ClassAuth, "invalid_api_key", kindAnswer},
		{403, `{"error":{"message":"Country, region, or territory not supported","code":"unsupported_country_region_territory"}}`, ClassAuth, "unsupported_country_region_territory", kindAnswer},
		{404, `{"error":{"message":"The model gpt-9 does not exist","type":"invalid_request_error","code":"model_not_found"}}`, ClassNotFound, "model_not_found", kindAnswer},
		{429, `{"error":{"message":"You exceeded your current quota, please check your plan","type":"insufficient_quota","code":"insufficient_quota"}}`, ClassQuota, "insufficient_quota", kindAnswer},
		{429, `{"error":{"message":"Rate limit reached for gpt-4o in organization org on tokens per min","type":"tokens","code":"rate_limit_exceeded"}}`, ClassPassing, "rate_limit_exceeded", kindOverload},
		{429, `{"error":{"message":"Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 50000","code":"rate_limit_exceeded"}}`, ClassPermanent, CodeTooLarge, kindAnswer},
		{400, `{"error":{"message":"Billing hard limit has been reached","code":"billing_hard_limit_reached"}}`, ClassQuota, "insufficient_quota", kindAnswer},
		{500, `{"error":{"message":"The server had an error","type":"server_error"}}`, ClassPassing, "server_error", kindBroken},
		{503, `{"error":{"message":"The engine is currently overloaded","type":"service_unavailable"}}`, ClassPassing, "service_unavailable", kindOverload},
		// Azure
		{400, `{"error":{"message":"The response was filtered due to the prompt triggering content management policy","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}`, ClassPermanent, CodeContentFilter, kindAnswer},
		{400, `{"error":{"message":"filtered","code":"bad","innererror":{"code":"ResponsibleAIPolicyViolation"}}}`, ClassPermanent, CodeContentFilter, kindAnswer},
		{404, `{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}`, ClassNotFound, "DeploymentNotFound", kindAnswer},
		{401, `{"statusCode":401,"message":"Unauthorized. Access token is missing, invalid"}`, ClassAuth, "", kindAnswer},
		// vLLM, both shapes
		{400, `{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4900 in the messages, 100 in the completion).","type":"BadRequestError","param":null,"code":400}`, ClassPermanent, CodeContextLength, kindAnswer},
		{400, `{"error":{"message":"'max_tokens' or 'max_completion_tokens' is too large: 4096. This model's maximum context length is 2048 tokens","type":"BadRequestError","param":"max_tokens","code":400}}`, ClassPermanent, CodeContextLength, kindAnswer},
		{400, `{"object":"error","message":"The decoder prompt (length 5000) is longer than the maximum model length of 4096.","type":"BadRequestError","code":400}`, ClassPermanent, CodeContextLength, kindAnswer},
		{404, `{"object":"error","message":"The model ` + "`x`" + ` does not exist.","type":"NotFoundError","param":null,"code":404}`, ClassNotFound, "NotFoundError", kindAnswer},
		{401, `{"error":"Unauthorized"}`, ClassAuth, "", kindAnswer},
		{500, `Internal Server Error`, ClassPassing, "", kindBroken},
		// SGLang, llama.cpp, TGI, Ollama
		{400, `{"object":"error","message":"The input (5000 tokens) is longer than the model's context length (4096 tokens).","type":"BadRequestError","code":400}`, ClassPermanent, CodeContextLength, kindAnswer},
		{400, `{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error","n_prompt_tokens":5000}}`, ClassPermanent, CodeContextLength, kindAnswer},
		{503, `{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}`, ClassPassing, "unavailable_error", kindOverload},
		{422, "{\"error\":\"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096\",\"error_type\":\"validation\"}", ClassPermanent, CodeContextLength, kindAnswer},
		{429, `{"error":"Model is overloaded","error_type":"overloaded"}`, ClassPassing, "overloaded", kindOverload},
		{424, `{"error":"Request failed during generation: CUDA out of memory","error_type":"generation"}`, ClassPassing, "generation", kindBroken},
		{404, `{"error":{"message":"model \"x\" not found, try pulling it first","type":"api_error"}}`, ClassNotFound, "api_error", kindAnswer},
		// Google, FastAPI, gateways
		{400, `[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]`, ClassAuth, "INVALID_ARGUMENT", kindAnswer},
		{422, `{"detail":[{"loc":["body"],"msg":"field required","input":"insufficient_quota"}]}`, ClassPermanent, "", kindAnswer},
		{404, `{"detail":"Not Found"}`, ClassNotFound, "", kindAnswer},
		{402, `{"error":{"message":"Insufficient credits"}}`, ClassQuota, "insufficient_quota", kindAnswer},
		{403, `{"error":{"message":"Your input was flagged by moderation"}}`, ClassPermanent, CodeContentFilter, kindAnswer},
		{405, ``, ClassNotFound, "", kindAnswer},
		{413, `<html><h1>413 Request Entity Too Large</h1></html>`, ClassPermanent, CodeTooLarge, kindAnswer},
		{408, ``, ClassPassing, "", kindBroken},
		{502, `<html><head><style>x{}</style></head><body>Bad gateway</body></html>`, ClassPassing, "", kindBroken},
		{504, ``, ClassPassing, "", kindBroken},
		{524, ``, ClassPassing, "", kindBroken},
		{529, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`, ClassPassing, "overloaded_error", kindOverload},
		{301, ``, ClassNotFound, CodeRedirect, kindAnswer},
		{418, `{"error":null}`, ClassPermanent, "", kindAnswer},
		{400, `{"error":{"message":"` + strings.Repeat("long ", 200) + `insufficient_quota"}}`, ClassPermanent, "", kindAnswer},
	} {
		e := classify(c.status, []byte(c.body))
		if e.Class != c.class || e.Code != c.code || e.kind != c.kind {
			t.Errorf("%d %.70s: %s %q kind %d, want %s %q kind %d", c.status, c.body, e.Class, e.Code, e.kind, c.class, c.code, c.kind)
		}
		if e.InDoubt != (c.status >= 500 && c.kind == kindBroken) {
			t.Errorf("%d: in doubt %v", c.status, e.InDoubt)
		}
		if e.Message == "" && http.StatusText(c.status) != "" {
			t.Errorf("%d: no message", c.status)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		header, ms, message string
		want                time.Duration
	}{
		{"", "", "", 0},
		{"7", "", "", 7 * time.Second},
		{" 0.5 ", "", "", 500 * time.Millisecond},
		{"7", "250", "", 250 * time.Millisecond},
		{"0", "", "try again in 9s", 0},
		{"-3", "", "", 0},
		{"NaN", "", "", 0},
		{"1e300", "", "", maxPause},
		{"Inf", "", "", maxPause},
		{"soon", "", "", 0},
		{now.Add(90 * time.Second).Format(http.TimeFormat), "", "", 90 * time.Second},
		{now.Add(-90 * time.Second).Format(http.TimeFormat), "", "", 0},
		{"", "", "Rate limit reached. Please try again in 1.2s. Visit", 1200 * time.Millisecond},
		{"", "", "Please try again in 20ms.", 20 * time.Millisecond},
		{"", "", "Please try again in 6m0s.", 6 * time.Minute},
		{"", "", "Please try again in 1h2m3s", time.Hour + 2*time.Minute + 3*time.Second},
		{"", "", "Please try again in a while", 0},
	} {
		h := http.Header{}
		if c.header != "" {
			h.Set("Retry-After", c.header)
		}
		if c.ms != "" {
			h.Set("retry-after-ms", c.ms)
		}
		if got := retryAfter(h, c.message, now); got != c.want {
			t.Errorf("%q %q %q: %s, want %s", c.header, c.ms, c.message, got, c.want)
		}
	}
}

func TestMessagesAreBoundedAndClean(t *testing.T) {
	t.Parallel()
	long := &Error{Class: ClassPermanent, Status: 400, Message: strings.Repeat("é\n", 5000)}
	if s := long.Error(); utf8.RuneCountInString(s) > maxMessage || strings.ContainsAny(s, "\n\r") {
		t.Errorf("%d characters", utf8.RuneCountInString(s))
	}
	r := newRedactor(testKey, "header-secret", "ab", "")
	if s := r.text("Bearer " + testKey + " and header-secret, cab " + strings.Repeat("x", 1000)); strings.Contains(s, "secret") || !strings.Contains(s, "cab") || utf8.RuneCountInString(s) > maxMessage {
		t.Error(s)
	}
}

func FuzzClassify(f *testing.F) {
	for _, s := range []string{"", "null", "[]", "[1]", `{"error":`, `{"error":[1]}`, `{"error":{"code":{}}}`, `{"detail":[]}`, "<html", `{"error":"x"}`, `[{"error":{"message":"m"}}]`} {
		f.Add(400, []byte(s), "7")
	}
	f.Fuzz(func(t *testing.T, status int, body []byte, header string) {
		e := classify(status, body)
		if e == nil || e.Class == "" {
			t.Fatalf("no class for %d", status)
		}
		if utf8.RuneCountInString(e.Error()) > maxMessage {
			t.Fatal("message not bounded")
		}
		if d := retryAfter(http.Header{"Retry-After": {header}}, string(body), time.Now()); d < 0 || d > maxPause {
			t.Fatalf("pause %s", d)
		}
	})
}

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "a\"b\\", "\x00\x1f\x7f", "é\u2028\xff", "</script>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var back string
		if err := json.Unmarshal(appendString(nil, s), &back); err != nil || back != strings.ToValidUTF8(s, "\uFFFD") {
			t.Fatalf("%q → %q, %v", s, back, err)
		}
	})
}

// FuzzReply feeds replies of any bytes through the whole client.
func FuzzReply(f *testing.F) {
	for _, s := range []string{goodReply, goodReply[:80], "", "null", `{"choices":[{}]}`, `{"choices":[null]}`, `{"error":{"code":429}}`, `{"choices":[{"logprobs":{"content":[{}]},"message":{"content":[{"text":1}]}}]}`} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, body []byte, chat bool) {
		p := Provider{URL: "http://fake", API: APICompletions}
		if chat {
			p.API = APIChat
		}
		c, err := New(p, WithMaxAttempts(1), WithMaxWait(1), WithTransport(roundTrip(func(*http.Request) (*http.Response, error) { return fakeReply(200, string(body), nil), nil })))
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.Complete(t.Context(), question())
		if _, ok := errors.AsType[*Error](err); err != nil && !ok {
			t.Fatalf("%T", err)
		}
		if r.Usage.PromptTokens < 0 || r.Usage.CachedTokens > r.Usage.PromptTokens || r.Usage.CompletionTokens < 0 {
			t.Fatalf("%+v", r.Usage)
		}
		if s := c.Stats(); s.InFlight != 0 {
			t.Fatalf("%+v", s)
		}
	})
}
