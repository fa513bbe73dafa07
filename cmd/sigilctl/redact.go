package main

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
)

// leftOut stands where something was that may be a secret.
const leftOut = "(left out)"

// unitProperties are what a bundle shows of a unit's state: none of them can hold
// what somebody wrote into the unit but paths and names.
func unitProperties() []string {
	return []string{"Id", "LoadState", "ActiveState", "SubState", "UnitFileState", "FragmentPath", "DropInPaths", "NeedDaemonReload",
		"ConditionResult", "ConditionTimestamp", "Result", "InvocationID", "MainPID", "ExecMainCode", "ExecMainStatus",
		"ExecMainStartTimestamp", "ExecMainExitTimestamp", "ActiveEnterTimestamp", "InactiveEnterTimestamp", "NRestarts",
		"StatusText", "WatchdogUSec", "WatchdogTimestamp", "MemoryCurrent", "MemoryPeak", "TasksCurrent", "LimitMEMLOCK",
		"User", "Group", "SupplementaryGroups"}
}

// redactProperties leaves what was asked for, whatever else systemctl says.
func redactProperties(text []byte) []byte {
	var out strings.Builder
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, "=")
		if line == "\n" || slices.Contains(unitProperties(), name) {
			out.WriteString(line)
		}
	}
	return []byte(out.String())
}

// fileName is the comment by which `systemctl cat` names a file.
var fileName = regexp.MustCompile(`^# /\S+$`)

// redactUnit takes out of unit files what may be a secret: comments, in which
// anything may stand, the environment, credentials, text for standard input and
// the arguments of programs. What goes on in the next line is taken out with it.
func redactUnit(text []byte) []byte {
	var out strings.Builder
	hidden, continued := false, false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		words := strings.TrimLeft(line, " \t")
		if comment := strings.HasPrefix(words, "#") || strings.HasPrefix(words, ";"); comment {
			if fileName.MatchString(line) { // a new file, whatever the one before ended with
				hidden, continued = false, false
				out.WriteString(line + "\n")
			}
			continue // it does not end what goes on
		}
		if !continued {
			line, hidden = redactDirective(line)
		}
		if !continued || !hidden {
			out.WriteString(line + "\n")
		}
		continued = strings.HasSuffix(words, `\`)
	}
	return []byte(out.String())
}

// redactDirective gives a directive as it may be shown, and whether something of
// it is hidden, so that the lines that continue it must be too.
func redactDirective(line string) (shown string, hidden bool) {
	name, value, assigns := strings.Cut(line, "=")
	key := strings.ToLower(strings.TrimSpace(name))
	switch {
	case !assigns && (key == "" || strings.HasPrefix(key, "[")):
		return line, false
	case !assigns:
		return leftOut, true
	case secretKey(key):
		return name + "=" + leftOut, true
	case runsProgram.MatchString(key):
		return redactProgram(name, strings.Fields(value), line)
	}
	return line, false
}

// redactProgram leaves a program's path, and the one argument of our own.
func redactProgram(name string, words []string, line string) (shown string, hidden bool) {
	switch {
	case len(words) == 0:
		return line, false
	case !programPath.MatchString(words[0]):
		return name + "=" + leftOut, true
	case len(words) == 1, len(words) == 2 && words[1] == "run":
		return line, false
	}
	return name + "=" + words[0] + " " + leftOut, true
}

var (
	runsProgram = regexp.MustCompile(`^exec(start|stop|reload|condition)`)
	// programPath is a path with the prefixes that systemd knows.
	programPath = regexp.MustCompile(`^[-+!:@|]*/[-\w./]+$`)
)

// secretKey says whether a directive's value may be a secret.
func secretKey(key string) bool {
	return slices.Contains([]string{"environment", "setcredential", "setcredentialencrypted", "standardinputtext", "standardinputdata"}, key) ||
		strings.HasPrefix(key, "x-")
}

var (
	// pinKey is what stands before the source of the token's PIN.
	pinKey = regexp.MustCompile(`(?i)\bpin["']?\s*=\s*`)
	// userInfo is a name and a password in a URL.
	userInfo = regexp.MustCompile(`://[^/\s"']*@`)
)

// redactConfig takes out of a configuration what stands at a key named pin, which
// should be a source and may be the PIN itself, passwords in URLs, and comments.
func redactConfig(text []byte) []byte {
	var out strings.Builder
	closing := "" // of a text over several lines that is being left out
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		if closing != "" {
			if strings.Contains(line, closing) {
				closing = ""
			}
			continue
		}
		line = uncomment(line)
		if at := pinKey.FindStringIndex(line); at != nil {
			closing = opened(line[at[1]:])
			line = line[:at[1]] + `"` + leftOut + `"`
		}
		out.WriteString(userInfo.ReplaceAllString(line, "://"+leftOut+"@") + "\n")
	}
	return []byte(out.String())
}

// opened gives what ends a text that begins here and does not end in this line.
func opened(value string) string {
	for _, quote := range []string{`"""`, `'''`} {
		if rest, is := strings.CutPrefix(value, quote); is && !strings.Contains(rest, quote) {
			return quote
		}
	}
	return ""
}

// uncomment takes a comment off, but for a # that stands in a text.
func uncomment(line string) string {
	quote := byte(0)
	for n := range len(line) {
		switch c := line[n]; {
		case quote == 0 && c == '#':
			return strings.TrimRight(line[:n], " \t")
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case c == quote && (quote == '\'' || !escaped(line, n)):
			quote = 0
		}
	}
	return line
}

// escaped says whether an odd number of backslashes stands before a byte.
func escaped(line string, n int) bool {
	return (n-len(bytes.TrimRight([]byte(line[:n]), `\`)))%2 == 1
}
