package main

import (
	"os"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon"
)

const faultsIntroduction = `# What happens when a device fails

Written by ` + "`make faults`" + `, which runs ` + "`TestDeviceFaults`" + ` (` + "`cmd/sigild`" + `): a SoftHSM token, an swtpm
and a KMS endpoint are made to fail under a running daemon while one caller
creates a wallet, one unlocks one, one signs by PIN and one signs by an unlock
that it held before. The suite fails when a caller gets or the status says another
word than is expected of that fault, when an attempt is charged, or when service
does not return by itself within a second (two on a loaded machine).

Each cell says what the caller got: "ok" or the reason of the error. In brackets
is the time from the end of the fault to the first success of that operation, on
the machine that wrote the table, time-outs of the devices being 1 s and of KMS
200 ms. "ok" means that the daemon did without the device or repeated the call by
itself. Which of two devices' faults a caller hears of may depend on the moment.
After "relock" the caller unlocks again. "state" is what ` + "`sigild_status`" + ` said while the
fault lasted; faults of one call are over by then. "not met" means that this operation
makes no such call.

| device | fault | state | create | unlock | sign by PIN | sign by an unlock |
|---|---|---|---|---|---|---|
`

const faultsDocument = "../../docs/faults.md"

func readFaultsDocument(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(faultsDocument)
	if err != nil && !*writeDocument {
		t.Fatal(err)
	}
	return string(text)
}

// The sections of docs/faults.md, in their order. Each is written by the test
// that sees what it says; the first has the document's own heading.
const (
	sectionLasting = "Faults that wait for a person"
	sectionHang    = "Calls that hang for long"
	sectionSoak    = "Faults under load"
	sectionStates  = "States"
)

// writeFaults puts a section into docs/faults.md in place of the one before.
func writeFaults(t *testing.T, section, body string) {
	t.Helper()
	const mark = "\n## "
	before := map[string]string{}
	for n, text := range strings.Split(readFaultsDocument(t), mark) {
		heading, rest, _ := strings.Cut(text, "\n")
		if n == 0 {
			heading, rest = "", text
		}
		before[heading] = strings.TrimRight(rest, "\n") + "\n"
	}
	before[section] = strings.TrimRight(body, "\n") + "\n"
	text := before[""]
	for _, heading := range []string{sectionLasting, sectionHang, sectionSoak, sectionStates} {
		if body, ok := before[heading]; ok {
			text += mark + heading + "\n" + body
		}
	}
	if err := os.WriteFile(faultsDocument, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestFaultsAreDocumented compares the table with what TestDeviceFaults wants to see:
// a row for each fault, and for nothing else, with the same words. Figures are not
// compared.
func TestFaultsAreDocumented(t *testing.T) {
	table, _, _ := strings.Cut(readFaultsDocument(t), "\n## ")
	_, table, found := strings.Cut(table, "|---|---|---|---|---|---|---|\n")
	if !found {
		t.Fatal("docs/faults.md has no table")
	}
	rows := strings.Split(strings.TrimSpace(table), "\n")
	for n, f := range deviceFaults() {
		if n >= len(rows) || !strings.HasPrefix("\n"+rows[n], rowHead(f)) {
			t.Fatalf("docs/faults.md has no row for %q in its place (make faults writes it)", f.name)
		}
		cells := strings.Split(strings.Trim(strings.TrimPrefix("\n"+rows[n], rowHead(f)), "| "), " | ")
		if len(cells) != 1+operationCount || !oneOf(strings.ReplaceAll(cells[0], " (", "("), f.state) {
			t.Fatalf("%s: the state is not %q", rows[n], f.state)
		}
		for i, cell := range cells[1:] {
			if word, _, _ := strings.Cut(cell, " ("); !oneOf(word, f.gets[i]) {
				t.Errorf("%s: operation %d does not get %q", rows[n], i, f.gets[i])
			}
		}
	}
	if faults := len(deviceFaults()); len(rows) != faults {
		t.Errorf("%d rows for %d faults", len(rows), faults)
	}
}

// TestConditionsAreDocumented compares the table of states with the document.
func TestConditionsAreDocumented(t *testing.T) {
	text, err := os.ReadFile(faultsDocument)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), daemon.ConditionsTable()) {
		t.Error("docs/faults.md does not hold the table of states: run `make faults`")
	}
}
