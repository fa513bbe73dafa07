package main

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sigild/sigild/ipc"
)

// sheet is text for people: lines of "key: value", the values aligned.
type sheet struct{ lines [][2]string }

// add adds a line, unless the value is empty.
func (s *sheet) add(key, value string) {
	if value != "" {
		s.lines = append(s.lines, [2]string{key, value})
	}
}

func (s *sheet) addf(key, format string, values ...any) { s.add(key, fmt.Sprintf(format, values...)) }

// String returns the lines, each with a newline.
func (s *sheet) String() string {
	width := 0
	for _, l := range s.lines {
		width = max(width, len(l[0]))
	}
	var b strings.Builder
	for _, l := range s.lines {
		fmt.Fprintf(&b, "%-*s  %s\n", width+1, plain(l[0])+":", plain(l[1]))
	}
	return b.String()
}

// table aligns rows of cells in columns.
func table(rows [][]string) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			row[i] = plain(cell)
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush() // into memory
	return b.String()
}

// plain keeps text of other people (owners, labels, the daemon's notes) from
// moving the cursor or turning the direction of writing: such text is quoted.
func plain(text string) string {
	if utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return text
	}
	return strconv.Quote(text)
}

// moment shows a time in the zone of the reader and, unless that is the same,
// in UTC.
func moment(t ipc.Time) string {
	const layout = "2006-01-02 15:04:05 MST"
	if t.IsZero() {
		return "unknown"
	}
	local, utc := t.Local(), t.UTC().Format(layout)
	if _, offset := local.Zone(); offset == 0 {
		return utc
	}
	return local.Format(layout) + " (" + utc + ")"
}

// short shows a time in UTC in little space, for tables.
func short(t ipc.Time) string { return t.UTC().Format(time.RFC3339) }

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// joined joins what is not empty.
func joined(separator string, parts ...string) string {
	var kept []string
	for _, p := range parts {
		if p != "" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, separator)
}
