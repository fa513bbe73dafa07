package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// event is a system call that begins or ends.
type event struct {
	call  string // "write", "fdatasync", …
	on    string // what the descriptor stands for: a path, or "socket:[…]"
	data  []byte // of a write
	begin bool
	end   bool
}

// Lines of strace -f -y -x: a call in one piece, its beginning, its end.
var (
	wholeLine   = regexp.MustCompile(`^(\d+) +(\w+)\((\d+)<(.*?)>(?:, (".*"|\[.*\]))?.*\) += (-?\d+)`)
	beginLine   = regexp.MustCompile(`^(\d+) +(\w+)\((\d+)<(.*?)>(?:, (".*"|\[.*\]))?.*<unfinished \.\.\.>$`)
	resumedLine = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>.*\) += (-?\d+)`)
	text        = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"`)
)

// readTrace parses the output of strace. A call in one piece is one event that
// begins and ends; another is two. An empty trace is an error: strace did not
// run, and proves nothing.
func readTrace(path string) ([]event, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var events []event
	open := map[string]event{} // by thread
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, len(data)+1)
	for lines.Scan() {
		e, thread, err := parseLine(lines.Text(), open)
		if err != nil {
			return nil, fmt.Errorf("%w in %.200q", err, lines.Text())
		}
		if thread != "" {
			events = append(events, e)
		}
	}
	if len(events) == 0 || lines.Err() != nil {
		return nil, errors.Join(errors.New("an empty trace"), lines.Err())
	}
	return events, nil
}

// parseLine gives no thread for a line that is no call of interest.
func parseLine(line string, open map[string]event) (event, string, error) {
	if m := wholeLine.FindStringSubmatch(line); m != nil {
		data, err := payload(m[5])
		return event{call: m[2], on: m[4], data: data, begin: true, end: true}, m[1], errors.Join(err, failed(m[6]))
	}
	if m := beginLine.FindStringSubmatch(line); m != nil {
		data, err := payload(m[5])
		e := event{call: m[2], on: m[4], data: data, begin: true}
		open[m[1]] = e
		return e, m[1], err
	}
	if m := resumedLine.FindStringSubmatch(line); m != nil {
		e, ok := open[m[1]]
		if !ok || e.call != m[2] {
			return event{}, "", nil // of a call that is not traced with its descriptor
		}
		delete(open, m[1])
		e.begin, e.end, e.data = false, true, nil
		return e, m[1], failedSync(e.call, m[3])
	}
	if strings.Contains(line, "+++") || strings.Contains(line, "---") || strings.Contains(line, " = ") || strings.Contains(line, "unfinished") {
		return event{}, "", nil // an exit, a signal, a call without a descriptor
	}
	return event{}, "", errors.New("a line of another form")
}

func failed(result string) error {
	if strings.HasPrefix(result, "-1") {
		return nil // such as EAGAIN of a socket; a sync that fails is found by failedSync
	}
	return nil
}

func failedSync(call, result string) error {
	if strings.HasSuffix(call, "sync") && result != "0" {
		return errors.New("a sync that failed")
	}
	return nil
}

// payload joins the strings of a write's buffer or a writev's list.
func payload(argument string) ([]byte, error) {
	var all []byte
	for _, m := range text.FindAllStringSubmatch(argument, -1) {
		part, err := unescape(m[1])
		if err != nil {
			return nil, err
		}
		all = append(all, part...)
	}
	return all, nil
}

// unescape undoes strace's quoting, which is C's with \xNN or octal.
func unescape(s string) ([]byte, error) {
	var out []byte
	for len(s) > 0 {
		if s[0] != '\\' {
			out, s = append(out, s[0]), s[1:]
			continue
		}
		b, rest, err := escape(s[1:])
		if err != nil {
			return nil, err
		}
		out, s = append(out, b), rest
	}
	return out, nil
}

func escape(s string) (byte, string, error) {
	if s == "" {
		return 0, "", errors.New("a lone backslash")
	}
	if i := strings.IndexByte(`ntrfv"\`, s[0]); i >= 0 {
		return "\n\t\r\f\v\"\\"[i], s[1:], nil
	}
	digits, base := 0, 8
	if s[0] == 'x' {
		s, base = s[1:], 16
	}
	for digits < len(s) && digits < 3 && (base == 8 || digits < 2) && isDigit(s[digits], base) {
		digits++
	}
	n, err := strconv.ParseUint(s[:digits], base, 8)
	return byte(n), s[digits:], err
}

func isDigit(c byte, base int) bool {
	_, err := strconv.ParseUint(string(c), base, 8)
	return err == nil
}

func TestTraceParser(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"empty":         "",
		"only an exit":  "12 +++ exited with 0 +++\n",
		"another form":  "hello\n",
		"a failed sync": "12 fdatasync(7</a/b> <unfinished ...>\n12 <... fdatasync resumed>) = -1 EIO (Input/output error)\n",
	} {
		path := dir + "/" + name
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if events, err := readTrace(path); err == nil {
			t.Errorf("%s: %d events", name, len(events))
		}
	}
	got, err := unescape(`a\x00\12\0\"\\\n\1773`)
	if want := "a\x00\n\x00\"\\\n\x7f3"; err != nil || string(got) != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}
