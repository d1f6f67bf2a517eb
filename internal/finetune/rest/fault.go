package rest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/selfalign/selfalign/internal/finetune"
)

// Fault is an error as OpenAI's API shapes it.
type Fault struct {
	Code    any    `json:"code"` // a string at most providers, a number at some
	Message string `json:"message"`
	Param   string `json:"param"`
	Type    string `json:"type"`
}

// UnmarshalJSON reads the object that the API defines, and the bare string that some gateways send.
func (f *Fault) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &f.Message)
	}
	type plain Fault
	var p plain
	if json.Unmarshal(b, &p) == nil {
		*f = Fault(p)
	}
	return nil
}

// CodeText returns the code as text, "" where there is none.
func (f *Fault) CodeText() string {
	if f == nil || f.Code == nil {
		return ""
	}
	return fmt.Sprint(f.Code)
}

// Words returns the message and the code, "" where there is neither.
func (f *Fault) Words() string {
	if f == nil || (f.Message == "" && f.CodeText() == "") {
		return ""
	}
	if f.CodeText() == "" {
		return f.Message
	}
	return strings.TrimSpace(f.Message + " (" + f.CodeText() + ")")
}

// refused reads an error answer: the shape that OpenAI defined, those of Kubernetes and of AWS, else the text as it is.
func (c *Client) refused(resp *http.Response, reply []byte) error {
	e := &finetune.Error{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header, time.Now())}
	var shape struct {
		Error   *Fault          `json:"error"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
		Reason  string          `json:"reason"` // Kubernetes
		Type    string          `json:"__type"` // AWS
	}
	kind := ""
	words := ""
	if json.Unmarshal(reply, &shape) == nil {
		if shape.Error != nil {
			words, e.Code, kind = shape.Error.Message, shape.Error.CodeText(), shape.Error.Type
			if shape.Error.Param != "" {
				words += " (" + shape.Error.Param + ")"
			}
		}
		if words == "" {
			words = shape.Message
		}
		if e.Code == "" {
			e.Code = shape.Reason + shape.Type[strings.LastIndexByte(shape.Type, '#')+1:]
		}
		if words == "" {
			words = string(shape.Detail)
		}
	}
	if words == "" {
		words = string(reply[:min(len(reply), 1024)])
	}
	if words == "" {
		words = http.StatusText(resp.StatusCode)
	}
	e.Message, e.Code = c.Clean(words), c.Clean(e.Code)
	e.Class = classOf(resp.StatusCode, e.Code+" "+kind, e.Message)
	if e.Class == finetune.ClassPermanent && resp.StatusCode/100 == 3 {
		e.Message = "the endpoint redirects, which is not followed (Try: the address that it names as url)"
	}
	return e
}

// classOf sorts an HTTP status with the provider's code.
func classOf(status int, code, words string) finetune.Class {
	said := strings.ToLower(code + " " + words)
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return finetune.ClassAuth
	case http.StatusPaymentRequired:
		return finetune.ClassQuota
	case http.StatusTooManyRequests:
		for _, word := range []string{"insufficient_quota", "billing", "exceeded your current quota", "credit", "daily_rate_limit", "daily limit"} {
			if strings.Contains(said, word) {
				return finetune.ClassQuota
			}
		}
		return finetune.ClassPassing
	case http.StatusNotFound, http.StatusGone:
		return finetune.ClassNotFound
	case http.StatusRequestTimeout, http.StatusTooEarly, 499:
		return finetune.ClassPassing
	case http.StatusBadRequest:
		for _, word := range []string{"throttl", "toomanyrequests", "requestlimitexceeded", "serviceunavailable", "requesttimeout"} { // AWS
			if strings.Contains(said, word) {
				return finetune.ClassPassing
			}
		}
		for _, word := range []string{"insufficient_quota", "billing_hard_limit"} {
			if strings.Contains(said, word) {
				return finetune.ClassQuota
			}
		}
	}
	if status >= 500 && status != http.StatusNotImplemented {
		return finetune.ClassPassing
	}
	return finetune.ClassPermanent
}

// retryAfter reads how long to stay away, in whole seconds rounded up; 0 when nothing is said.
func retryAfter(h http.Header, now time.Time) int {
	up := func(d time.Duration) int { return int(min(max((d+time.Second-1)/time.Second, 0), 7*24*3600)) }
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms > 0 && ms < 1e12 {
		return up(time.Duration(ms * float64(time.Millisecond)))
	}
	v := strings.TrimSpace(h.Get("Retry-After"))
	if s, err := strconv.ParseFloat(v, 64); err == nil && s > 0 && s < 1e9 {
		return up(time.Duration(s * float64(time.Second)))
	}
	if at, err := http.ParseTime(v); err == nil {
		return up(at.Sub(now))
	}
	return 0
}
