package kmstest

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
)

const (
	// contentType is that of AWS JSON 1.1, in both directions.
	contentType = "application/x-amz-json-1.1"

	// target is the one operation, as X-Amz-Target names it.
	target = "TrentService.GenerateRandom"

	// maxRequest bounds a request's body in bytes.
	maxRequest = 64 << 10

	// maxBytes is the most that GenerateRandom gives.
	maxBytes = 1024
)

// serve authenticates and validates one request and acts on it.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.count(func(c *Stats) { c.Requests++ })
	w.Header().Set("X-Amzn-Requestid", requestID())
	w.Header().Set("Date", s.verifier.Now().UTC().Format(http.TimeFormat))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		writeError(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException", "body is too large")
		return
	}
	if err := s.verifier.Verify(r, body); err != nil {
		s.count(func(c *Stats) { c.SignatureFailures++ })
		refuse(w, err)
		return
	}
	n, err := parseRequest(r, body)
	if err != nil {
		refuse(w, err)
		return
	}
	s.next()(s, w, r, n)
}

// parseRequest returns the number of bytes asked for.
func parseRequest(r *http.Request, body []byte) (int, error) {
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != contentType {
		return 0, &Refusal{Code: "SerializationException", Message: "POST " + contentType}
	}
	if r.Header.Get("X-Amz-Target") != target {
		return 0, &Refusal{Code: "UnknownOperationException", Message: "only GenerateRandom is known"}
	}
	var request struct{ NumberOfBytes *int }
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&request); err != nil || d.More() {
		return 0, &Refusal{Code: "SerializationException", Message: "body is not a GenerateRandom request of NumberOfBytes alone"}
	}
	if request.NumberOfBytes == nil || *request.NumberOfBytes < 1 || *request.NumberOfBytes > maxBytes {
		return 0, &Refusal{Code: "ValidationException", Message: "NumberOfBytes must be 1 to 1024"}
	}
	return *request.NumberOfBytes, nil
}

// honest answers with n fresh random bytes.
func honest(s *Server, w http.ResponseWriter, _ *http.Request, n int) {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: it ends the process instead
	s.writeRandom(w, b)
}

// repeated returns the last answer if it has n bytes, else a fresh one.
func (s *Server) repeated(n int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.last) == n {
		return slices.Clone(s.last)
	}
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// writeRandom answers with b and remembers it for Repeat.
func (s *Server) writeRandom(w http.ResponseWriter, b []byte) {
	s.count(func(c *Stats) { c.Answered++ })
	s.mu.Lock()
	s.last = slices.Clone(b)
	s.mu.Unlock()
	writeJSON(w, http.StatusOK, struct{ Plaintext []byte }{b})
}

// refuse answers with the AWS error of a refused request.
func refuse(w http.ResponseWriter, err error) {
	refusal, ok := errors.AsType[*Refusal](err)
	if !ok {
		refusal = &Refusal{Code: "KMSInternalException", Message: "not authenticated"}
	}
	writeError(w, http.StatusBadRequest, refusal.Code, refusal.Message)
}

// writeError answers with an error as KMS writes it.
func writeError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, map[string]string{"__type": code, "message": message})
}

// writeJSON answers with a body of AWS JSON 1.1.
func writeJSON(w http.ResponseWriter, status int, body any) {
	encoded, err := json.Marshal(body)
	if err != nil {
		status, encoded = http.StatusInternalServerError, []byte(`{"__type":"KMSInternalException"}`)
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(encoded) // the client may have gone
}

// requestID is a random UUID, version 4, as AWS makes them.
func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// count changes the statistics.
func (s *Server) count(change func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}
