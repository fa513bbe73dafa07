package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/sigild/sigild/cmd/internal/ask/asktest"
	"github.com/sigild/sigild/daemon"
	"github.com/sigild/sigild/daemon/daemontest"
)

// replaced replaces the code by shares of a new one.
func (m *measured) replaced(code []byte, shares, threshold string) [][]byte {
	m.t.Helper()
	written, output := m.succeeds(code, "recover", "--replace-code", "--code-fd", "3", "--new-code-fd", "4",
		"--shares", shares, "--threshold", threshold)
	lines := bytes.Split(written, []byte("\n"))
	if fmt.Sprint(len(lines)) != shares {
		m.t.Fatalf("%d shares were made, want %s", len(lines), shares)
	}
	mustNotLeak(m.t, output, lines...)
	return lines
}

func joined(shares ...[]byte) []byte { return bytes.Join(shares, []byte("\n")) }

// The code is replaced by shares, three of five of which recover the host, and
// shares are replaced by other shares.
func TestRecoveryCodeInShares(t *testing.T) {
	m := newMeasured(t)
	old := m.replaced(m.code, "4", "2")
	s := m.replaced(joined(old[3], old[1]), "5", "3")
	m.signs()
	m.extend(11)
	m.refused(daemon.ExitConfig, "PCR 11")
	mistyped := bytes.Clone(s[2])
	mistyped[20] = other(mistyped[20])
	for _, wrong := range []struct {
		says  string
		parts [][]byte
	}{
		{"replaced since", [][]byte{m.code}},
		{"replaced since", old[:2]},
		{"more shares are needed: 2 of 3 were given", s[:2]},
		{"share 2: this share was given already", [][]byte{s[1], s[0], s[1]}},
		{"begins with " + string(old[0][:3]), [][]byte{s[0], s[1], old[2]}},
		{"check each group", [][]byte{s[0], s[1], mistyped}},
		{"check each group", [][]byte{s[0], m.code}},
	} {
		m.fails(wrong.says, joined(wrong.parts...), "recover", "--code-fd", "3")
	}
	m.refused(daemon.ExitConfig, "PCR 11")
	m.succeeds(joined(s[4], s[0], s[2]), "recover", "--code-fd", "3")
	m.signs()
}

func TestSharesThatCannotBeMade(t *testing.T) {
	m := newMeasured(t)
	for says, args := range map[string][]string{
		"2 or more of them needed":    {"--replace-code", "--shares", "3", "--threshold", "1"},
		"2 to 16 shares":              {"--replace-code", "--shares", "17", "--threshold", "3"},
		"3 shares of which 4":         {"--replace-code", "--shares", "3", "--threshold", "4"},
		"of which 0 are needed":       {"--replace-code", "--shares", "3"},
		"go with --replace-code":      {"--shares", "3", "--threshold", "2"},
		"so the old one stays valid:": {"--replace-code", "--shares", "3", "--threshold", "2", "--new-code-fd", "97"},
	} {
		m.fails(says, m.code, append([]string{"recover", "--code-fd", "3"}, args...)...)
	}
	m.extend(14)
	m.succeeds(m.code, "recover", "--code-fd", "3")
}

var shareForm = regexp.MustCompile(`(?:[0-9A-Z]{4}-){14}[0-9A-Z]{4}`)

// keeper reads the share that is shown and proves to have written it down.
func keeper(term *asktest.Terminal, title string) string {
	term.Expect(title)
	term.Expect("to confirm: ")
	all := shareForm.FindAllString(term.Output(), -1)
	share := all[len(all)-1]
	term.Send(share[len(share)-4:] + "\r")
	return share
}

// People at a terminal: each keeper confirms a share, and whoever recovers may
// mistype.
func TestSharesAtTheTerminal(t *testing.T) {
	m := newDevices(t, daemontest.Options{})
	term := asktest.Start(t, m.Command(m.ctx, "provision", "--shares", "3", "--threshold", "2"))
	term.Expect("User PIN of the token: ")
	term.Send(string(m.TokenPIN()) + "\r")
	first := keeper(term, "Share 1 of 3 of the recovery code, 2 are needed")
	term.Expect("\x1b[3J") // nobody scrolls back to it
	term.Expect("Share 2 of 3")
	term.Expect("to confirm: ")
	term.Send("????\r")
	second := keeper(term, "look again")
	third := keeper(term, "Share 3 of 3")
	if code, shown := term.Wait(); code != 0 || !strings.Contains(shown, "provisioned") {
		t.Fatalf("exit code %d:\n%s", code, shown)
	}
	m.start()
	m.stop()
	m.extend(12)
	m.refused(daemon.ExitConfig, "PCR 12")
	m.recoveredByPeople(first, second, third)
	m.start()
	m.stop()
}

func (m *measured) recoveredByPeople(first, second, third string) {
	m.t.Helper()
	term := asktest.Start(m.t, m.Command(m.ctx, "recover"))
	for _, step := range []struct{ question, answer string }{
		{"Recovery code, or a share of it: ", second[:40]},
		{"check each group", ""},
		{"Recovery code, or a share of it: ", strings.ToLower(third)},
		{"Another share (1 of 2 were given): ", third},
		{"given already", ""},
		{"Another share (1 of 2 were given): ", strings.ReplaceAll(first, "-", " ")},
	} {
		term.Expect(step.question)
		if step.answer != "" {
			term.Send(step.answer + "\r")
		}
	}
	code, shown := term.Wait()
	if code != 0 || !strings.Contains(shown, "recovered") {
		m.t.Fatalf("exit code %d:\n%s", code, shown)
	}
	mustNotLeak(m.t, strings.ToUpper(shown), []byte(third), []byte(strings.ReplaceAll(first, "-", " ")))
}

// A keeper who cannot confirm ends the provisioning, and nothing is provisioned.
func TestKeeperWhoWroteNothingDown(t *testing.T) {
	m := newDevices(t, daemontest.Options{})
	term := asktest.Start(t, m.Command(m.ctx, "provision", "--shares", "2", "--threshold", "2"))
	term.Expect("User PIN of the token: ")
	term.Send(string(m.TokenPIN()) + "\r")
	keeper(term, "Share 1 of 2")
	term.Expect("Share 2 of 2")
	for range confirmTries {
		term.Expect("to confirm: ")
		term.Send("\r")
	}
	if code, shown := term.Wait(); code != daemon.ExitFailed || !strings.Contains(shown, "nothing was completed") {
		t.Fatalf("exit code %d:\n%s", code, shown)
	}
	m.refused(daemon.ExitConfig, "not provisioned")
}
