package ipctest

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// Exchange is one request of a recorded conversation and what came of it.
type Exchange struct {
	Method string // "" when the request names none
	Reason string // of the error; "" when there is a result
}

// Exchanges reads those of one file that Play plays, without playing it. What
// belongs to a batch, and requests without an answer, are left out.
func Exchanges(t testing.TB, file string) (list []Exchange) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	all := !strings.HasSuffix(file, ".md")
	inside, method := all, ""
	for n := 0; n < len(lines); {
		line := strings.TrimRight(lines[n], "\n")
		length := 1
		switch {
		case !all && strings.HasPrefix(line, "```"):
			inside = line == "```jsonrpc"
		case inside && strings.HasPrefix(line, "--> "):
			length = valueLines(lines[n:])
			method = methodIn(strings.Join(lines[n:n+length], "")[4:])
		case inside && strings.HasPrefix(line, "<-- "):
			length = valueLines(lines[n:])
			if e, ok := outcomeIn(strings.Join(lines[n:n+length], "")[4:]); ok {
				list = append(list, Exchange{Method: method, Reason: e})
			}
		}
		n += length
	}
	return list
}

func methodIn(request string) string {
	var q struct{ Method string }
	if json.Unmarshal([]byte(request), &q) != nil {
		return ""
	}
	return q.Method
}

// outcomeIn gives the reason of an answer, "" of a result. Other members of an
// error may be left open in a recording.
func outcomeIn(answer string) (reason string, ok bool) {
	var a struct {
		Result json.RawMessage
		Error  *struct{ Data struct{ Reason string } }
	}
	if json.Unmarshal([]byte(answer), &a) != nil || (a.Error == nil) == (a.Result == nil) {
		return "", false
	}
	if a.Error == nil {
		return "", true
	}
	return a.Error.Data.Reason, true
}
