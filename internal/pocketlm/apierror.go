package pocketlm

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// apiError is an error in the shape that OpenAI's API gives it.
type apiError struct {
	status     int
	retryAfter string // seconds, for the header; empty: none
	Message    string `json:"message"`
	Type       string `json:"type"`
	Param      string `json:"-"`
	Code       string `json:"-"`
}

func (e *apiError) Error() string { return e.Message }

func (e *apiError) body() []byte {
	inner := map[string]any{"message": e.Message, "type": e.Type, "param": nil, "code": nil}
	if e.Param != "" {
		inner["param"] = e.Param
	}
	if e.Code != "" {
		inner["code"] = e.Code
	}
	b, _ := json.Marshal(map[string]any{"error": inner}) // strings only: cannot fail
	return append(b, '\n')
}

func badRequest(param, format string, args ...any) *apiError {
	return &apiError{status: http.StatusBadRequest, Type: "invalid_request_error", Param: param, Message: fmt.Sprintf(format, args...)}
}

func notFound(param, code, format string, args ...any) *apiError {
	return &apiError{status: http.StatusNotFound, Type: "invalid_request_error", Param: param, Code: code, Message: fmt.Sprintf(format, args...)}
}

func conflict(format string, args ...any) *apiError {
	return &apiError{status: http.StatusConflict, Type: "invalid_request_error", Message: fmt.Sprintf(format, args...)}
}

func internal(err error) *apiError {
	return &apiError{status: http.StatusInternalServerError, Type: "server_error", Message: err.Error()}
}

func writeError(w http.ResponseWriter, e *apiError) {
	if e.retryAfter != "" {
		w.Header().Set("Retry-After", e.retryAfter)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.status)
	w.Write(e.body()) //nolint:errcheck // the client has gone; nobody is left to tell
}

func writeJSON(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		writeError(w, internal(err))
		return
	}
	writeBody(w, b)
}

func writeBody(w http.ResponseWriter, b []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Write(b) //nolint:errcheck // as above
}
