package daemon

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sigild/sigild/daemon/entropy"
	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/tpm"
)

// update writes what is made from the code into docs:
//
//	go test ./daemon -run 'Errors|Members|OpenRPC' -update
var update = flag.Bool("update", false, "write the generated parts of docs anew")

// samples are errors of the kinds that get their reason by a conversion, and
// not in failures.
func samples() []error {
	return []error{
		&wallet.PINError{}, &guard.WaitError{}, &wallet.TermsError{}, &wallet.DeniedError{}, &wallet.FieldError{Field: "field"},
		&entropy.SourceError{Source: "kms", Reason: entropy.ReasonFailed}, hsm.ErrObjectLost, tpm.ErrUnavailable, syscall.ENOSPC,
		ipc.Overloaded("", 0),
	}
}

// ownReasons are those that package ipc gives by itself, with their codes.
func ownReasons() map[string]int {
	return map[string]int{
		ipc.ReasonParse: ipc.CodeParse, ipc.ReasonInvalidRequest: ipc.CodeInvalidRequest,
		ipc.ReasonMethodNotFound: ipc.CodeMethodNotFound, ipc.ReasonInternal: ipc.CodeInternal,
		ipc.ReasonTooLarge: ipc.CodeInvalidRequest, ipc.ReasonTooDeep: ipc.CodeInvalidRequest,
		ipc.ReasonTimeout: ipc.CodeInvalidRequest, ipc.ReasonBatchTooLong: ipc.CodeInvalidRequest, ipc.ReasonPeerNotAllowed: ipc.CodeUnauthorized,
	}
}

// documented is one row of docs/errors.md.
type documented struct {
	codes []int
	retry bool
	free  bool // the error itself says that it cost no attempt
}

// reasons are all that a caller can meet, from the code that makes them.
func reasons(t *testing.T) map[string]*documented {
	t.Helper()
	all := map[string]*documented{}
	add := func(e *ipc.Error) {
		d := all[e.Reason]
		if d == nil {
			d = &documented{}
			all[e.Reason] = d
		}
		if !slices.Contains(d.codes, e.Code) {
			d.codes = append(d.codes, e.Code)
		}
		d.retry = d.retry || e.RetryAfter != nil
		d.free = d.free || (e.Charged != nil && !*e.Charged)
	}
	for _, f := range failures() {
		add(f.error())
	}
	for _, err := range samples() {
		var e *ipc.Error
		if !errors.As(wireError(err), &e) {
			t.Fatalf("%T has no reason", err)
		}
		add(e)
	}
	for reason, code := range ownReasons() {
		add(&ipc.Error{Reason: reason, Code: code})
	}
	return all
}

// TestErrorsDocument keeps docs/errors.md equal to the code.
func TestErrorsDocument(t *testing.T) {
	all := reasons(t)
	var b bytes.Buffer
	fmt.Fprintf(&b, errorsHead, "`"+strings.Join(unopened(), "`, `")+"`")
	for _, group := range []struct {
		title   string
		advices []advice
	}{
		{"The PIN, unlocks and policy", userAdvices()}, {"The PIN channel", channelAdvices()}, {"Wallets and requests", stateAdvices()},
		{"Devices", deviceAdvices()}, {"What was not carried out", requestAdvices()},
	} {
		fmt.Fprintf(&b, "\n## %s\n\n| reason | code | repeat | charged | what to do |\n|---|---|---|---|---|\n", group.title)
		for _, a := range group.advices {
			writeAdvice(t, &b, a, all[a.reason])
		}
	}
	compareDocument(t, "../docs/errors.md", b.Bytes())
}

func writeAdvice(t *testing.T, b *bytes.Buffer, a advice, d *documented) {
	t.Helper()
	if d == nil {
		t.Errorf("reason %q has an advice and no error", a.reason)
		return
	}
	if d.free && a.charged == alwaysCharged {
		t.Errorf("reason %q says that nothing was charged, its advice the contrary", a.reason)
	}
	var codes []string
	for _, c := range d.codes {
		codes = append(codes, fmt.Sprint(c))
	}
	repeat := "no"
	if d.retry {
		repeat = "yes"
	}
	fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", a.reason, strings.Join(codes, ", "), repeat, a.charged, a.do)
}

const errorsHead = `# Errors

Made from the code by ` + "`go test ./daemon -run Errors -update`" + `; do not edit.

An error is a JSON-RPC error object:

` + "```json" + `
{"code": 4100, "message": "wrong PIN",
 "data": {"reason": "wrongPin", "attemptsLeft": 9, "charged": true}}
` + "```" + `

Match on ` + "`data.reason`" + `: it never changes its meaning, and new ones may come. The code
is that of JSON-RPC 2.0, EIP-1474 or EIP-1193 that fits best; the message is for people.
Besides the reason, ` + "`data`" + ` may have ` + "`attemptsLeft`" + ` (wrong PINs that the wallet still
bears), ` + "`retryAfter`" + ` (seconds), ` + "`charged`" + ` (whether this call cost an attempt),
` + "`lockedUntil`" + ` (when a waiting wallet takes a PIN again) and ` + "`field`" + ` (the path of the
parameter at fault).

**repeat**: whether the same call may succeed later. **charged**: whether the call costs
the wallet a PIN attempt. "given back": a check that was charged could not be made, and
its charge is taken back before the answer; only when the disk fails as well it stands.

When the connection breaks before the answer, nobody knows whether the call was carried
out. Repeat it with the same ` + "`requestId`" + `; a signature may simply be asked for again.

To a request with a sealed PIN every error is proven to be the daemon's, but for those
from before the PIN was opened. A client takes no other without proof. They say nothing
of the wallet, and a relay may invent them for a request that was carried out:
%s.
`

// unopened are the reasons that a request with a sealed PIN can get before the
// PIN is opened: those of package ipc, what is wrong with the block, and what is
// wrong with the parameters beside it. A time-out and an internal error come
// later, and a PIN in the clear is not sealed.
func unopened() (reasons []string) {
	for reason := range ownReasons() {
		reasons = append(reasons, reason)
	}
	for _, f := range sealedFailures() {
		reasons = append(reasons, f.reason)
	}
	reasons = append(reasons, ipc.ReasonInvalidParams)
	slices.Sort(reasons)
	return slices.DeleteFunc(slices.Compact(reasons), func(r string) bool {
		return slices.Contains([]string{ipc.ReasonInternal, ipc.ReasonTimeout, ipc.ReasonPlainPINRefused}, r)
	})
}

// TestReasonsWithoutProof holds both clients' lists against the table.
func TestReasonsWithoutProof(t *testing.T) {
	source, err := os.ReadFile("../ipc/js/src/reasons.js")
	if err != nil {
		t.Fatal(err)
	}
	var script []string
	for _, m := range regexp.MustCompile(`(?m)^  '(\w+)',$`).FindAllStringSubmatch(string(source), -1) {
		script = append(script, m[1])
	}
	for name, list := range map[string][]string{"Go": ipc.ReasonsWithoutProof(), "JavaScript": script} {
		slices.Sort(list)
		if want := unopened(); !slices.Equal(list, want) {
			t.Errorf("the %s client takes %q without proof, want %q", name, list, want)
		}
	}
}

// TestErrorsAreComplete holds the advices and docs against every reason.
func TestErrorsAreComplete(t *testing.T) {
	all, seen := reasons(t), map[string]bool{}
	for _, a := range advices() {
		if seen[a.reason] {
			t.Errorf("two advices for %q", a.reason)
		}
		seen[a.reason] = true
	}
	for reason := range all {
		if !seen[reason] {
			t.Errorf("reason %q has no advice in errors_advice.go", reason)
		}
	}
	for _, reason := range packageReasons(t) {
		if all[reason] == nil {
			t.Errorf("reason %q of package ipc is not documented", reason)
		}
	}
}

// packageReasons are the constants of package ipc that name a reason.
func packageReasons(t *testing.T) (reasons []string) {
	t.Helper()
	files, err := filepath.Glob("../ipc/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^\tReason\w+ += "(\w+)"`).FindAllStringSubmatch(string(source), -1) {
			reasons = append(reasons, m[1])
		}
	}
	if len(reasons) < 16 {
		t.Fatalf("found %d reasons in package ipc", len(reasons))
	}
	return reasons
}

// compareDocument fails when a document is not what the code says, or writes it.
func compareDocument(t *testing.T, path string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the code says: go test ./daemon -run 'Errors|Members|OpenRPC' -update", path)
	}
}
