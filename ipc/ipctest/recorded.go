package ipctest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Recorded plays conversations that were recorded from a real server, in text
// files and in the fenced jsonrpc blocks of Markdown documents. Their values are
// those of the recording: ids, addresses, keys, signatures and times differ in
// every run. Each of them stands for what the server gives in its place, also
// in later requests, and must be of the same form; all else must be equal.
//
// A value may go over several lines. Besides "--> " and "<-- " a line may be
//
//	!! connect        go on on a new connection
//	!! NAME           run the hook of that name
//
// A block of a document starts on a new connection.
type Recorded struct {
	Dial func(*testing.T) net.Conn
	// Hooks are what a conversation can have done to the server.
	Hooks map[string]func(*testing.T)
	// Update writes the answers that differ into the file.
	Update bool
	// Told, if set, gets every answer.
	Told func(answer []byte)
	// Prepare, if set, makes what is sent of a recorded request in which this
	// run's values stand already.
	Prepare func(t *testing.T, request string) string
}

// Play plays one file.
func (r Recorded) Play(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := &player{Recorded: r, t: t, values: map[string]string{}, all: !strings.HasSuffix(file, ".md")}
	lines := strings.SplitAfter(string(text), "\n")
	for n := 0; n < len(lines); {
		n += p.next(lines[n:], n+1)
	}
	if p.sent == 0 {
		t.Fatalf("%s has no request", file)
	}
	p.hangUp()
	if r.Update && p.out.String() != string(text) {
		if err := os.WriteFile(file, p.out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

type player struct {
	Recorded
	t       *testing.T
	all     bool // the whole file is a conversation
	inside  bool // a block of one
	conn    net.Conn
	answers *json.Decoder
	values  map[string]string // recorded value → this run's
	sent    int
	out     bytes.Buffer // the file with this run's answers
}

// next plays what starts at the first line and returns its number of lines.
func (p *player) next(lines []string, number int) int {
	p.t.Helper()
	line := strings.TrimRight(lines[0], "\n")
	switch {
	case !p.all && strings.HasPrefix(line, "```"):
		p.inside = line == "```jsonrpc"
		p.hangUp()
	case !p.all && !p.inside:
	case strings.HasPrefix(line, "!! "):
		p.directive(strings.TrimPrefix(line, "!! "), number)
	case strings.HasPrefix(line, "--> "), strings.HasPrefix(line, "<-- "):
		n := valueLines(lines)
		value := strings.Join(lines[:n], "")
		if value[0] == '-' {
			p.out.WriteString(value)
			p.send(value[4:], number)
			return n
		}
		p.out.WriteString(p.expect(value[4:], number))
		return n
	}
	p.out.WriteString(lines[0])
	return 1
}

// valueLines counts the lines of a value: up to the next one that starts
// something else.
func valueLines(lines []string) int {
	n := 1
	for n < len(lines) {
		line := strings.TrimRight(lines[n], "\n")
		if line == "" || strings.HasPrefix(line, "//") || strings.HasPrefix(line, "```") ||
			strings.HasPrefix(line, "-->") || strings.HasPrefix(line, "<--") || strings.HasPrefix(line, "!!") {
			break
		}
		n++
	}
	return n
}

func (p *player) directive(name string, number int) {
	p.t.Helper()
	if name == "connect" {
		p.hangUp()
		return
	}
	hook := p.Hooks[name]
	if hook == nil {
		p.t.Fatalf("line %d: there is no hook %q", number, name)
	}
	hook(p.t)
}

func (p *player) hangUp() {
	if p.conn != nil {
		_ = p.conn.Close()
	}
	p.conn = nil
}

func (p *player) connect() {
	p.t.Helper()
	if p.conn != nil {
		return
	}
	p.conn = p.Dial(p.t)
	if err := p.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	p.answers = json.NewDecoder(p.conn)
}

func (p *player) send(text string, number int) {
	p.t.Helper()
	p.connect()
	request := p.live(text)
	if p.Prepare != nil {
		request = p.Prepare(p.t, request)
	}
	if _, err := io.WriteString(p.conn, request); err != nil {
		p.t.Fatalf("line %d: %v", number, err)
	}
	p.sent++
}

// expect compares the next answer with the recorded one and returns the text
// for the file.
func (p *player) expect(recorded string, number int) string {
	p.t.Helper()
	p.connect() // a server may speak first, to a peer that it does not let in
	var raw json.RawMessage
	err := p.answers.Decode(&raw)
	if strings.TrimSpace(recorded) == closed {
		if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			p.t.Fatalf("line %d: got %s, error %v, want the connection closed", number, raw, err)
		}
		return "<-- " + recorded
	}
	if err != nil {
		p.t.Fatalf("line %d: no answer: %v", number, err)
	}
	if p.Told != nil {
		p.Told(raw)
	}
	problem := p.compare(recorded, raw)
	switch {
	case problem == nil:
		return "<-- " + recorded
	case p.Update:
		return "<-- " + p.written(recorded, raw) + "\n"
	}
	p.t.Fatalf("line %d: %v\n got %s\nwant %s", number, problem, p.written(recorded, raw), recorded)
	return ""
}

func (p *player) compare(recorded string, raw json.RawMessage) error {
	var want, got any
	if err := json.Unmarshal(raw, &got); err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(recorded), &want); err != nil {
		return fmt.Errorf("the recorded answer is not JSON: %w", err)
	}
	p.learn("", want, got)
	return p.same("", "", want, got)
}
