package kmstest

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Always, as a number of requests, makes a scripted behaviour last until Reset.
const Always = -1

// rule is one scripted behaviour and how many requests it still answers.
type rule struct {
	left int // Always: no end
	act  action
}

// action answers one authenticated, well-formed request.
type action func(s *Server, w http.ResponseWriter, r *http.Request, n int)

// Throttle answers ThrottlingException.
func (s *Server) Throttle(requests int) {
	s.Fail("ThrottlingException", http.StatusBadRequest, requests)
}

// Denied answers AccessDeniedException.
func (s *Server) Denied(requests int) {
	s.Fail("AccessDeniedException", http.StatusBadRequest, requests)
}

// Fail answers an AWS error of that code with that HTTP status.
func (s *Server) Fail(code string, status, requests int) {
	s.then(requests, func(_ *Server, w http.ResponseWriter, _ *http.Request, _ int) {
		writeError(w, status, code, "scripted failure")
	})
}

// WrongClock answers as KMS does when this host's clock is ten minutes slow.
func (s *Server) WrongClock(requests int) {
	s.then(requests, func(s *Server, w http.ResponseWriter, r *http.Request, _ int) {
		now := s.verifier.Now().UTC().Add(10 * time.Minute)
		w.Header().Set("Date", now.Format(http.TimeFormat))
		writeError(w, http.StatusBadRequest, "InvalidSignatureException", fmt.Sprintf(
			"Signature expired: %s is now earlier than %s (%s - 5 min.)",
			r.Header.Get("X-Amz-Date"), now.Add(-maxSkew).Format(amzDate), now.Format(amzDate)))
	})
}

// Hang never answers; a request ends when the client gives up or the server is
// closed. The channel gets one value for each request that hangs, up to 64.
func (s *Server) Hang(requests int) <-chan struct{} {
	hanging := make(chan struct{}, 64)
	s.then(requests, func(s *Server, _ http.ResponseWriter, r *http.Request, _ int) {
		select {
		case hanging <- struct{}{}:
		default:
		}
		select {
		case <-r.Context().Done():
		case <-s.stopped.Done():
		}
		panic(http.ErrAbortHandler) // ends the connection without an answer
	})
	return hanging
}

// Break ends the connection in place of an answer.
func (s *Server) Break(requests int) {
	s.then(requests, func(*Server, http.ResponseWriter, *http.Request, int) { panic(http.ErrAbortHandler) })
}

// Slow answers honestly after a delay.
func (s *Server) Slow(delay time.Duration, requests int) {
	s.then(requests, func(s *Server, w http.ResponseWriter, r *http.Request, n int) {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
			honest(s, w, r, n)
		case <-r.Context().Done():
		case <-s.stopped.Done():
		}
	})
}

// Short answers with size random bytes, whatever was asked for.
func (s *Server) Short(size, requests int) {
	s.then(requests, func(s *Server, w http.ResponseWriter, r *http.Request, _ int) { honest(s, w, r, size) })
}

// Repeat answers with the bytes of the answer before, if that was of the length
// asked for.
func (s *Server) Repeat(requests int) {
	s.then(requests, func(s *Server, w http.ResponseWriter, _ *http.Request, n int) {
		s.writeRandom(w, s.repeated(n))
	})
}

// Constant answers with equal bytes.
func (s *Server) Constant(value byte, requests int) {
	s.then(requests, func(s *Server, w http.ResponseWriter, _ *http.Request, n int) {
		s.writeRandom(w, bytes.Repeat([]byte{value}, n))
	})
}

// HTML answers with a page, as a proxy or a captive portal does.
func (s *Server) HTML(status, requests int) {
	page := "<html><head><title>Sign in to the network</title></head><body>" + strings.Repeat("<p>proxy</p>", 20) + "</body></html>"
	s.Raw(status, "text/html; charset=utf-8", page, requests)
}

// Raw answers with any body, for example broken JSON.
func (s *Server) Raw(status int, contentType, body string, requests int) {
	s.then(requests, func(_ *Server, w http.ResponseWriter, _ *http.Request, _ int) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
}

// Reset drops every behaviour that is queued.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = nil
}

// then queues a behaviour; none for no requests.
func (s *Server) then(requests int, act action) {
	if requests == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = append(s.script, rule{left: requests, act: act})
}

// next takes the behaviour for one request.
func (s *Server) next() action {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.script) == 0 {
		return honest
	}
	act := s.script[0].act
	if s.script[0].left > 0 {
		s.script[0].left--
	}
	if s.script[0].left == 0 {
		s.script = s.script[1:]
	}
	return act
}
