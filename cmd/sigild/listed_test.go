package main

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

// TestEveryRecordedReasonIsListed holds docs/rpc.md against what the conversations
// show: a method's section, the list for all methods, or that of the PIN channel
// where the section names it, has each reason that it answered with.
func TestEveryRecordedReasonIsListed(t *testing.T) {
	listed, general := listedByMethod(t)
	missing := map[string]bool{}
	for _, e := range conversations(t) {
		known, documented := listed[e.Method]
		if !documented || e.Reason == "" || slices.Contains(append(known, general...), e.Reason) { // a batch, or no method
			continue
		}
		missing[e.Method+": "+e.Reason] = true
	}
	for what := range missing {
		t.Errorf("docs/rpc.md does not list %s", what)
	}
}

// unshown are reasons in the lists of docs/rpc.md that no conversation of the
// method shows, with the cause; those of unreachable besides.
var unshown = causesOf(
	notShown("digest", "no message is known whose hash is 0 modulo the curve's order; sigild_signDigest shows it",
		append([]string{ipc.MethodSignTransaction, ipc.MethodSignMessage, ipc.MethodSignTypedData, ipc.MethodSignAuthorization,
			ipc.MethodSignUserOperation, ipc.MethodSignBatch}, signByUnlock...)...),
	notShown("keyGone", "the keys of a record can only go while sigild is down, and its start ends all unlocks: unlockRequired comes first", signByUnlock...),
	notShown("overloaded", "it is for PIN checks, sealed PINs and changes, and these methods take no PIN and change nothing", signByUnlock...),
	notShown("unlockRequired", "a lock must come between two steps of an unlock; TestLockBesideAnUnlockUnderWay has it so", ipc.MethodUnlock),
	notShown("timeout", "no fault here holds up what it waits for, if anything; timeout.txt shows the reason with methods that take a PIN",
		ipc.MethodStatus, ipc.MethodPinKey, ipc.MethodFreezeAll),
)

// signByUnlock are the methods of other programs that sign.
var signByUnlock = []string{ipc.MethodAccountSignTransaction, ipc.MethodAccountSignData, ipc.MethodAccountSignTypedData, ipc.MethodEthSign,
	ipc.MethodEthSignTransaction, ipc.MethodEthSignTypedData, ipc.MethodEthSignTypedDataV4, ipc.MethodPersonalSign}

// notShown says why no conversation of the methods shows a reason.
func notShown(reason, why string, methods ...string) map[ipctest.Exchange]string {
	causes := map[ipctest.Exchange]string{}
	for _, method := range methods {
		causes[ipctest.Exchange{Method: method, Reason: reason}] = why
	}
	return causes
}

func causesOf(all ...map[ipctest.Exchange]string) map[ipctest.Exchange]string {
	causes := map[ipctest.Exchange]string{}
	for _, some := range all {
		maps.Copy(causes, some)
	}
	return causes
}

// TestEveryListedReasonIsShown: what docs/rpc.md lists as a method's errors, a
// conversation of that method ends with, or it is written down why none does.
func TestEveryListedReasonIsShown(t *testing.T) {
	shown := map[ipctest.Exchange]bool{}
	for _, e := range conversations(t) {
		shown[e] = true
	}
	listed, _ := listedByMethod(t)
	for _, method := range slices.Sorted(maps.Keys(listed)) {
		for _, reason := range listed[method] {
			e := ipctest.Exchange{Method: method, Reason: reason}
			seen, why := shown[e], unshown[e]
			switch {
			case !seen && why == "" && unreachable[reason] == "":
				t.Errorf("%s: no conversation ends with %q, which docs/rpc.md lists", method, reason)
			case seen && why != "":
				t.Errorf("%s: %q is said not to be shown, and a conversation shows it", method, reason)
			}
		}
	}
	for e := range unshown {
		if !slices.Contains(listed[e.Method], e.Reason) {
			t.Errorf("%s: %q is excepted, and docs/rpc.md does not list it", e.Method, e.Reason)
		}
	}
}

// listedByMethod are the reasons that docs/rpc.md lists for each method, those of
// the PIN channel included where the method's list names them, and those for all.
func listedByMethod(t *testing.T) (listed map[string][]string, general []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/rpc.md")
	if err != nil {
		t.Fatal(err)
	}
	document := string(text)
	channel := listedReasons(t, document, "The PIN channel's own errors")
	listed = map[string][]string{}
	for _, section := range strings.Split(document, "<!-- method: ")[1:] {
		method, body, _ := strings.Cut(section, " -->")
		body, _, _ = strings.Cut(body, "\n## ")
		listed[method] = listedReasons(t, body, "Errors")
		if strings.Contains(body, "those of [the PIN channel]") {
			listed[method] = append(listed[method], channel...)
			if strings.Contains(body, "[the PIN channel](#the-pin-channel) but `plainPinRefused`") {
				listed[method] = slices.DeleteFunc(listed[method], func(reason string) bool { return reason == ipc.ReasonPlainPINRefused })
			}
		}
	}
	return listed, listedReasons(t, document, "Every method")
}

// listedReasons are those of the paragraph that begins with head and a colon.
func listedReasons(t *testing.T, text, head string) (reasons []string) {
	t.Helper()
	paragraph := regexp.MustCompile(`(?ms)^` + regexp.QuoteMeta(head) + `: (.*?)(\n\n|\z)`).FindStringSubmatch(text)
	if paragraph == nil {
		t.Fatalf("no list of errors begins with %q", head)
	}
	for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(paragraph[1], -1) {
		reasons = append(reasons, m[1])
	}
	return reasons
}
