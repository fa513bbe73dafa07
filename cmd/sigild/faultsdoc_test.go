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
that it held before. The suite fails when a caller gets anything but "ok" or the
reasons in this table, when an attempt is charged, or when service does not
return by itself.

Each cell says what the caller got: "ok" or the reason of the error. In brackets
is the time from the end of the fault to the first success of that operation, on
the machine that wrote the table, time-outs of the devices being 1 s and of KMS
200 ms. "ok" means that the daemon did without the device or repeated the call by
itself. Which of two devices' faults a caller hears of may depend on the moment.
After "relock" the caller unlocks again.

| device | fault | create | unlock | sign by PIN | sign by an unlock |
|---|---|---|---|---|---|
`

func writeFaultsDocument(t *testing.T, rows []string) {
	t.Helper()
	text := faultsIntroduction + strings.Join(rows, "\n") + "\n\n" + daemon.ConditionsTable()
	if err := os.WriteFile(faultsDocument, []byte(text), 0o644); err != nil {
		t.Fatal(err)
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
