package llm

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
)

// detail is what the body of a refusal says, in whichever of the shapes that are in use:
//
//	{"error":{"message","type","code","param","innererror":{"code"}}}   OpenAI, Azure, vLLM since 0.10, llama.cpp, Ollama
//	{"object":"error","message","type","code"}                          vLLM before, SGLang
//	{"error":"text","error_type":"validation"}                          TGI
//	{"detail":"text"} or {"detail":[{"msg"}]}                           FastAPI
//	[{"error":{...}}]                                                   Google
//	text or HTML                                                        proxies
type detail struct{ message, code, kind, param string }

func detailOf(body []byte) detail {
	var list []json.RawMessage
	if json.Unmarshal(body, &list) == nil && len(list) > 0 {
		body = list[0]
	}
	var top map[string]json.RawMessage
	if json.Unmarshal(body, &top) != nil {
		return detail{message: plainText(body)}
	}
	fields := top
	if raw, ok := top["error"]; ok {
		var inner map[string]json.RawMessage
		if json.Unmarshal(raw, &inner) == nil && inner != nil {
			fields = inner
		} else if s := scalar(raw); s != "" {
			return detail{message: s, kind: scalar(top["error_type"])}
		}
	}
	d := detail{
		message: scalar(fields["message"]), code: scalar(fields["code"]),
		kind: scalar(fields["type"]), param: scalar(fields["param"]),
	}
	if d.kind == "" {
		d.kind = scalar(fields["status"]) // Google
	}
	if raw, ok := fields["innererror"]; ok {
		var inner map[string]json.RawMessage
		if json.Unmarshal(raw, &inner) == nil && scalar(inner["code"]) == "ResponsibleAIPolicyViolation" {
			d.code = CodeContentFilter
		}
	}
	if d.message == "" {
		d.message = scalar(fields["detail"])
	}
	if d.message == "" {
		var items []struct {
			Msg string `json:"msg"`
		}
		if json.Unmarshal(fields["detail"], &items) == nil && len(items) > 0 {
			d.message = items[0].Msg
		}
	}
	if d.message == "" {
		d.message = plainText(body)
	}
	return d
}

// scalar returns a string as it is, a number or boolean as it is written, and "" for anything else.
func scalar(raw json.RawMessage) string {
	if len(raw) == 0 || raw[0] == '{' || raw[0] == '[' || string(raw) == "null" {
		return ""
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

var tags = regexp.MustCompile(`(?is)<(?:script|style)\b.*?</(?:script|style)>|<[^>]{0,500}>`)

func plainText(body []byte) string {
	s := string(body[:min(len(body), 8<<10)])
	if strings.Contains(s, "<") {
		s = tags.ReplaceAllString(s, " ")
	}
	return strings.TrimSpace(s)
}

// Texts by which endpoints that have no code for it say what is wrong, in lower case.
var (
	contextTexts = []string{
		"maximum context length", "context length exceeded", "context_length_exceeded", "reduce the length of the", // OpenAI, vLLM
		"longer than the maximum model length", "is too large: ", "exceeds the maximum context", // vLLM
		"longer than the model's context length", "exceeds the model's maximum context length", // SGLang
		"exceeds the available context size", "exceed_context_size", // llama.cpp
		"`inputs` tokens + `max_new_tokens`", "`inputs` must have less than", // TGI
		"prompt is too long", "input is too long", "too many tokens", "input token count", "context window",
	}
	filterTexts = []string{
		"content_filter", "content management policy", "content policy", "responsibleaipolicyviolation", "flagged by moderation",
		"requires moderation", "safety system", "usage policies", "data_inspection_failed",
	}
	quotaTexts = []string{
		"insufficient_quota", "exceeded your current quota", "billing_hard_limit", "billing_not_active", "insufficient balance",
		"insufficient credits", "insufficient funds", "credit balance", "payment required", "spend limit", "account is not active",
	}
	keyTexts   = []string{"invalid_api_key", "incorrect api key", "invalid api key", "api key not valid", "api key expired"}
	modelTexts = []string{"model_not_found", "deploymentnotfound", "unknown model", "no such model", "model not found"}
	// Refusals of one request that is larger than the whole rate limit: waiting does not help.
	neverFits = []string{"request too large for", "your request exceeds the rate limit"}
)

func mentions(s string, texts []string) bool {
	for _, t := range texts {
		if strings.Contains(s, t) {
			return true
		}
	}
	return false
}

var missingModel = regexp.MustCompile(`model\W.{0,200}(?:does not exist|not found|is not available|is not supported by this endpoint)`)

// classify turns a refusal into an Error: its class, a normalised code, and what it says about the endpoint.
// The message is neither bounded nor redacted yet.
func classify(status int, body []byte) *Error {
	d := detailOf(body)
	e := &Error{Status: status, Message: d.message, Code: d.code, Class: ClassPermanent, kind: kindAnswer}
	if e.Code == "" || isNumber(e.Code) {
		e.Code = d.kind
	}
	if e.Message == "" {
		e.Message = http.StatusText(status)
	}
	// Only the beginning of the message: further on, some endpoints quote the request.
	all := strings.ToLower(d.code + "\n" + d.kind + "\n" + d.message[:min(len(d.message), 400)])
	as := func(c Class, code string) *Error { e.Class, e.Code = c, code; return e }
	asKind := func(k kind) *Error { e.Class, e.kind = ClassPassing, k; return e }

	switch {
	case status == http.StatusTooManyRequests && mentions(all, quotaTexts), status == http.StatusPaymentRequired:
		return as(ClassQuota, "insufficient_quota")
	case status == http.StatusTooManyRequests && mentions(all, neverFits):
		return as(ClassPermanent, CodeTooLarge)
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable, status == 529:
		return asKind(kindOverload)
	case status == http.StatusRequestTimeout, status == http.StatusConflict, status == http.StatusTooEarly,
		status == http.StatusFailedDependency, status == 499:
		return asKind(kindBroken)
	case status == http.StatusNotImplemented:
		return as(ClassNotFound, "not_implemented")
	case status >= 500:
		// The gateway gave up waiting, or the server failed after its work: perhaps billed.
		e.InDoubt = true
		return asKind(kindBroken)
	case status >= 300 && status < 400:
		return as(ClassNotFound, CodeRedirect)
	case mentions(all, filterTexts) && status != http.StatusUnauthorized, status == http.StatusUnavailableForLegalReasons:
		return as(ClassPermanent, CodeContentFilter)
	case mentions(all, quotaTexts):
		return as(ClassQuota, "insufficient_quota")
	case status == http.StatusUnauthorized, status == http.StatusForbidden, mentions(all, keyTexts):
		e.Class = ClassAuth
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status == http.StatusGone,
		mentions(all, modelTexts), status == http.StatusBadRequest && missingModel.MatchString(all):
		e.Class = ClassNotFound
	case mentions(all, contextTexts):
		return as(ClassPermanent, CodeContextLength)
	case status == http.StatusRequestEntityTooLarge:
		return as(ClassPermanent, CodeTooLarge)
	}
	e.param = d.param
	return e
}

func isNumber(s string) bool { return strings.Trim(s, "0123456789") == "" }

// wantsNewName reports whether the endpoint asks for max_completion_tokens in place of max_tokens.
func (e *Error) wantsNewName() bool {
	return e.Status == http.StatusBadRequest && strings.Contains(e.Message, "max_completion_tokens") &&
		(e.param == "max_tokens" || strings.Contains(e.Message, "'max_tokens' is not supported"))
}
