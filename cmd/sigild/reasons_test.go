package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

// unreachable are the reasons that no conversation can show, with what keeps
// them from happening. A reason that can be shown does not belong here.
var unreachable = map[string]string{
	"conflict": "changes of one wallet take turns (guard.Turn), and the file lock lets one daemon alone open the database; " +
		"the store's own refusal is shown by daemon/store's tests",
	"undecided": "daemon/eth gives every payload the facts that policies decide on, and a policy is checked before it is kept; " +
		"the refusal is shown by daemon/policy's tests with facts that no payload has",
}

// conversations are the exchanges of all files that the tests here play.
func conversations(t *testing.T) (list []ipctest.Exchange) {
	t.Helper()
	for _, pattern := range []string{"testdata/*.txt", "testdata/service/*.txt", "testdata/faults/*.txt", "../../docs/rpc.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no conversation matches %q (error %v)", pattern, err)
		}
		for _, file := range files {
			list = append(list, ipctest.Exchanges(t, file)...)
		}
	}
	return list
}

// documentedReasons are all that a caller can meet: docs/errors.md, which a test
// of package daemon holds against the code.
func documentedReasons(t *testing.T) (reasons []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(string(text), -1) {
		reasons = append(reasons, m[1])
	}
	if len(reasons) < 40 {
		t.Fatalf("docs/errors.md has %d reasons", len(reasons))
	}
	return reasons
}

// TestEveryReasonHasAConversation: each reason is seen on the real socket, or it
// is written down why it cannot be.
func TestEveryReasonHasAConversation(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range conversations(t) {
		seen[e.Reason] = true
	}
	documented := documentedReasons(t)
	for _, reason := range documented {
		switch why := unreachable[reason]; {
		case !seen[reason] && why == "":
			t.Errorf("no conversation shows the reason %q", reason)
		case seen[reason] && why != "":
			t.Errorf("%q is said to be unreachable, and a conversation shows it", reason)
		}
	}
	for reason := range seen {
		if reason != "" && !slices.Contains(documented, reason) {
			t.Errorf("a conversation shows %q, which docs/errors.md does not have", reason)
		}
	}
}

// Reasons that whole kinds of methods can give.
const (
	takesPIN = "pinSyntax plainPinRefused pinKeyUnknown sealedPinExpired sealedPinInvalid sealedPinUsed " +
		"tokenUnavailable tokenFault auditUnavailable diskUnavailable timeout"
	checksPIN = "wrongPin locked pinWait notFound deleted recordCorrupt overloaded tpmUnavailable measuredState keyGone databaseRefused databaseChanged anchorUnavailable"
	signs     = "unlockRequired relock policyDenied termsExceeded frozen"
	changes   = "notFound recordCorrupt tokenUnavailable auditUnavailable diskUnavailable databaseRefused databaseChanged anchorUnavailable"
	byUnlock  = "notFound unlockRequired relock policyDenied termsExceeded frozen deleted recordCorrupt " +
		"tokenUnavailable tokenFault auditUnavailable"
)

// particular are the reasons of single methods beside those of their kind.
var particular = map[string]string{
	ipc.MethodCreateWallet: "entropyFailed requestReused externalIdTaken pinWeak exportForbidden custodyUnsupported",
	ipc.MethodImportWallet: "entropyFailed requestReused externalIdTaken pinWeak importForbidden custodyUnsupported " +
		"addressTaken addressMismatch keyInvalid",
	ipc.MethodExportAccount:          "frozen notExportable exportForbidden custodyUnsupported",
	ipc.MethodDeriveAccount:          "frozen requestReused tooManyAccounts",
	ipc.MethodUnlock:                 "frozen tooManyUnlocks",
	ipc.MethodChangePIN:              "frozen pinWeak",
	ipc.MethodSetPolicy:              "frozen requestReused",
	ipc.MethodSignTransaction:        "wrongSender",
	ipc.MethodSignDigest:             "digest",
	ipc.MethodSignMessage:            "nonceReused",
	ipc.MethodGetWallet:              "notFound recordCorrupt tokenUnavailable",
	ipc.MethodListWallets:            "operatorOnly tokenUnavailable",
	ipc.MethodUpdateWallet:           changes + " deleted externalIdTaken",
	ipc.MethodLabelAccount:           changes + " deleted",
	ipc.MethodFreezeWallet:           changes + " deleted",
	ipc.MethodUnfreezeWallet:         changes + " operatorOnly",
	ipc.MethodGiveBackAttempts:       changes + " operatorOnly giveBack givenAll",
	ipc.MethodRestoreWallet:          changes + " operatorOnly",
	ipc.MethodFreezeAll:              "operatorOnly tokenUnavailable",
	ipc.MethodEthChainID:             "chainNotConfigured",
	ipc.MethodNetVersion:             "chainNotConfigured",
	ipc.MethodStatus:                 "",
	ipc.MethodEthAccounts:            "",
	ipc.MethodAccountList:            "",
	ipc.MethodAccountVersion:         "",
	ipc.MethodClientVersion:          "",
	ipc.MethodRPCModules:             "",
	ipc.MethodDiscover:               "",
	ipc.MethodPinKey:                 "",
	ipc.MethodLock:                   "",
	ipc.MethodLockAll:                "",
	ipc.MethodDeleteWallet:           "",
	ipc.MethodSignTypedData:          "",
	ipc.MethodSignAuthorization:      "",
	ipc.MethodSignUserOperation:      "",
	ipc.MethodSignBatch:              "",
	ipc.MethodAccountSignData:        byUnlock,
	ipc.MethodEthSign:                byUnlock,
	ipc.MethodPersonalSign:           byUnlock,
	ipc.MethodEthSignTypedData:       byUnlock,
	ipc.MethodEthSignTypedDataV4:     byUnlock,
	ipc.MethodEthSignTransaction:     byUnlock,
	ipc.MethodAccountSignTypedData:   byUnlock,
	ipc.MethodAccountSignTransaction: byUnlock,
}

// TestEveryMethodHasItsConversations: each method's success, and each reason of
// its kind. The methods are those of the OpenRPC document, which a test of
// package daemon holds against the code.
func TestEveryMethodHasItsConversations(t *testing.T) {
	shown := map[string]map[string]bool{}
	for _, e := range conversations(t) {
		if shown[e.Method] == nil {
			shown[e.Method] = map[string]bool{}
		}
		shown[e.Method][e.Reason] = true
	}
	methods := describedMethods(t)
	for _, method := range slices.Sorted(maps.Keys(methods)) {
		own, known := particular[method]
		if !known {
			t.Errorf("%s: say in this test which reasons it can give", method)
		}
		wanted := append([]string{"", ipc.ReasonInvalidParams}, strings.Fields(own)...)
		if methods[method] {
			wanted = append(wanted, strings.Fields(takesPIN)...)
			if method == ipc.MethodImportWallet || method == ipc.MethodExportAccount { // the PIN is no member
				wanted = slices.DeleteFunc(wanted, func(reason string) bool { return reason == ipc.ReasonPlainPINRefused })
			}
			if method != ipc.MethodCreateWallet && method != ipc.MethodImportWallet {
				wanted = append(wanted, strings.Fields(checksPIN)...)
			}
			if strings.HasPrefix(method, "sigild_sign") {
				wanted = append(wanted, strings.Fields(signs)...)
			}
		}
		for _, reason := range wanted {
			if !shown[method][reason] {
				t.Errorf("%s: no conversation ends with %q", method, reason)
			}
		}
	}
	if len(methods) != len(particular) {
		t.Errorf("%d methods are described, and this test knows %d", len(methods), len(particular))
	}
}

// describedMethods says of every method whether it takes a PIN.
func describedMethods(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("../../docs/openrpc.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Methods []struct {
			Name   string
			Params []struct {
				Schema struct {
					Ref string `json:"$ref"`
				}
			}
		}
		Components struct {
			Schemas map[string]struct{ Properties map[string]json.RawMessage }
		}
	}
	if err := json.Unmarshal(text, &doc); err != nil || len(doc.Methods) == 0 {
		t.Fatalf("%d methods, %v", len(doc.Methods), err)
	}
	methods := map[string]bool{}
	for _, m := range doc.Methods {
		methods[m.Name] = false
		for _, p := range m.Params {
			_, sealed := doc.Components.Schemas[strings.TrimPrefix(p.Schema.Ref, "#/components/schemas/")].Properties["sealedPin"]
			methods[m.Name] = methods[m.Name] || sealed
		}
	}
	return methods
}
