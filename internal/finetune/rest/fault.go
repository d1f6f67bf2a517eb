package rest

import (
	"encoding/json"
	"fmt"
	"strings"
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
