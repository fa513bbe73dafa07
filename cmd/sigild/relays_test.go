package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/sigild/sigild/ipc"
)

// bothRelays is what two relays are let in by, the daemon's own user being the
// operator.
func bothRelays() string {
	return "allow = " + uids(own, relayUID, strangerUID) + "\noperators = " + uids(own)
}

// made creates a wallet as a relay.
func (r *relay) made(requestID string) ipc.WalletInfo {
	r.t.Helper()
	var result ipc.CreateWalletResult
	params := fmt.Sprintf(`{"requestId":%q,"owner":"alice","externalId":"user:1","tags":["t"],"pin":%q}`, requestID, rightPIN)
	if err := r.call(ipc.MethodCreateWallet, params, &result); err != nil || result.Existing {
		r.t.Fatalf("%+v, %v", result, err)
	}
	return result.Wallet
}

// TestRelaysShareNothing has two relays use the same request ids, owners, names
// and tags; what one asks about the other's wallet is not found, by whatever
// method, and costs it nothing.
func TestRelaysShareNothing(t *testing.T) {
	if !canBeOthers(t) {
		nothingOfAnotherRelay(t)
		return
	}
	h := openToAll(t, bothRelays(), custody())
	seals := &sealer{host: h}
	one, other := newRelay(t, h, relayUID), newRelay(t, h, strangerUID)
	mine, theirs := one.made("1"), other.made("1")
	if mine.WalletID.String() == theirs.WalletID.String() || mine.Accounts[0].Address == theirs.Accounts[0].Address {
		t.Fatalf("two relays share a wallet: %+v", mine)
	}
	foreign := foreignCalls(theirs)
	everyMethodIsTried(t, one, foreign)
	for method, params := range foreign {
		for _, p := range params {
			wantReason(t, one.call(method, seals.params(t, method, p), nil), "notFound")
		}
	}
	var locked ipc.LockResult
	unlock := fmt.Sprintf(`{"walletId":%q,"pin":%q,"bind":"uid","terms":{"signatures":9,"seconds":300,"totalValue":"any","policy":{"operations":["message"]}}}`,
		theirs.WalletID, rightPIN)
	if err := other.call(ipc.MethodUnlock, unlock, &json.RawMessage{}); err != nil {
		t.Fatal(err)
	}
	lock := fmt.Sprintf(`{"walletId":%q}`, theirs.WalletID)
	if err := one.call(ipc.MethodLock, lock, &locked); err != nil || locked.Locked {
		t.Errorf("one relay locks the other's wallet: %+v, %v", locked, err)
	}
	var all ipc.CountResult
	if err := one.call(ipc.MethodLockAll, "{}", &all); err != nil || all.Wallets != 0 {
		t.Errorf("one relay locks the other's wallets: %+v, %v", all, err)
	}
	for method, params := range foreign { // also while it is unlocked
		for _, p := range params {
			wantReason(t, one.call(method, seals.params(t, method, p), nil), "notFound")
		}
	}
	byUnlock := fmt.Sprintf(`{"walletId":%q,"message":"0x00"}`, theirs.WalletID)
	wantReason(t, one.call(ipc.MethodSignMessage, byUnlock, nil), "notFound")
	if err := other.call(ipc.MethodSignMessage, byUnlock, &json.RawMessage{}); err != nil {
		t.Errorf("the unlock's own relay: %v", err)
	}
	checkSeesOnly(t, one, mine)
	checkSeesOnly(t, other, theirs)
	if n, err := dial(t, h.Socket).LockAll(testContext(t)); err != nil || n.Wallets != 1 {
		t.Errorf("the operator locks everybody's: %+v, %v", n, err)
	}
	wantReason(t, other.call(ipc.MethodSignMessage, byUnlock, nil), "unlockRequired")
	stop(t, h)
	checkNothingCharged(t, h)
}

// withoutForeign are the methods with which no relay can ask about another's
// wallet as if it were its own: they name none, or TestRelaysShareNothing and
// TestOnlyOperatorsDoWhatIsTheirs have them.
func withoutForeign() []string {
	return []string{
		ipc.MethodStatus, ipc.MethodPinKey, ipc.MethodCreateWallet, ipc.MethodImportWallet, ipc.MethodListWallets, ipc.MethodLock, ipc.MethodLockAll,
		ipc.MethodUnfreezeWallet, ipc.MethodRestoreWallet, ipc.MethodGiveBackAttempts, ipc.MethodFreezeAll,
		ipc.MethodAccountVersion, ipc.MethodAccountList, ipc.MethodEthAccounts, ipc.MethodEthChainID, ipc.MethodNetVersion,
		ipc.MethodClientVersion, ipc.MethodRPCModules, ipc.MethodDiscover,
	}
}

// everyMethodIsTried compares the two lists with the methods that are served.
func everyMethodIsTried(t *testing.T, r *relay, foreign map[string][]string) {
	t.Helper()
	var served struct {
		Methods []struct{ Name string }
	}
	if err := r.call(ipc.MethodDiscover, "", &served); err != nil || len(served.Methods) == 0 {
		t.Fatalf("%+v, %v", served, err)
	}
	known := map[string]bool{}
	for _, method := range slices.Concat(withoutForeign(), slices.Collect(maps.Keys(foreign))) {
		if known[method] {
			t.Errorf("%s is in both lists", method)
		}
		known[method] = true
	}
	for _, m := range served.Methods {
		if !known[m.Name] {
			t.Errorf("nobody tries %s with another relay's wallet: add it to foreignCalls", m.Name)
		}
		delete(known, m.Name)
	}
	for method := range known {
		t.Errorf("%s is not served", method)
	}
}

// nothingOfAnotherRelay takes another relay's wallet of a host that was made before:
// root's.
func nothingOfAnotherRelay(t *testing.T) {
	t.Helper()
	g, h := goldenHost(t, newestGolden(t))
	h.Config["socket"], h.Config["custody"] = "", bothWays // an operator may freeze others' wallets
	if err := h.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	start(t, h)
	seals, r := &sealer{host: h}, newRelay(t, h, own)
	mine := r.made("1")
	for method, params := range foreignCalls(g.Wallet) {
		for _, p := range params {
			wantReason(t, r.call(method, seals.params(t, method, p), nil), "notFound")
		}
	}
	checkSeesOnly(t, r, mine)
}

// foreignCalls are all methods that name a wallet or one of its accounts, with
// another relay's. Their PIN is wrong, so that a check that is made costs an attempt.
func foreignCalls(w ipc.WalletInfo) map[string][]string {
	id := fmt.Sprintf(`{"walletId":%q`, w.WalletID)
	address := fmt.Sprintf(`{"address":%q`, w.Accounts[0].Address)
	pin, request := fmt.Sprintf(`,"pin":%q}`, wrongPIN), `,"requestId":"2"`
	typed := `,"payload":{"types":{"EIP712Domain":[{"name":"name","type":"string"}],"A":[{"name":"a","type":"bool"}]},"primaryType":"A","domain":{"name":"x"},"message":{"a":true}}`
	authorization := `,"payload":{"chainId":"0x1","address":"0x9858effd232b4033e47d90003d41ec34ecaeda94","nonce":"0x0"}`
	word := fmt.Sprintf("%064x", 1<<40)
	operation := `,"payload":{"chainId":"0x1","entryPoint":"0x4337084d9e255ff0702461cf8895ce9e3b5ff108","userOperation":{` +
		`"sender":"0x9858effd232b4033e47d90003d41ec34ecaeda94","nonce":"0x0","initCode":"0x","callData":"0x","preVerificationGas":"0x1",` +
		`"accountGasLimits":"0x` + word + `","gasFees":"0x` + word + `","paymasterAndData":"0x"}}`
	digest := fmt.Sprintf(`,"digest":"0x%064x"`, 1)
	account := fmt.Sprintf("%q", w.Accounts[0].Address)
	data := typed[len(`,"payload":`):]
	export := fmt.Sprintf(`,"recipient":"<recipient>","sealedPin":"<sealed %s>"}`, wrongPIN)
	tx := fmt.Sprintf(`{"from":%s,`, account) + fmt.Sprintf(dynamicFee, 0)[1:]
	return map[string][]string{
		ipc.MethodGetWallet:     {id + "}", address + "}"},
		ipc.MethodUpdateWallet:  {id + `,"label":"mine"}`},
		ipc.MethodLabelAccount:  {id + `,"account":0,"label":"mine"}`},
		ipc.MethodFreezeWallet:  {id + "}"},
		ipc.MethodDeriveAccount: {id + request + pin},
		ipc.MethodDeleteWallet:  {id + request + pin},
		ipc.MethodChangePIN:     {id + request + `,"newPin":"591823"` + pin},
		ipc.MethodSetPolicy:     {id + request + `,"policy":{"operations":[]}` + pin},
		ipc.MethodUnlock:        {id + `,"terms":{"signatures":1,"seconds":1,"totalValue":"any","policy":{"operations":[]}}` + pin},
		ipc.MethodSignMessage:   {id + `,"message":"0x00"` + pin, address + `,"message":"0x00"` + pin, id + `,"message":"0x00"}`},
		ipc.MethodSignTransaction: {id + `,"transaction":` + fmt.Sprintf(dynamicFee, 0) + pin,
			address + `,"transaction":` + tx + `}`},
		ipc.MethodSignTypedData:     {id + typed + pin, address + typed + pin},
		ipc.MethodSignAuthorization: {id + authorization + pin},
		ipc.MethodSignUserOperation: {id + operation + pin},
		ipc.MethodSignDigest:        {id + digest + pin},
		ipc.MethodExportAccount:     {id + export, address + export},
		ipc.MethodSignBatch:         {id + `,"items":[{"message":"0x00"}]` + pin},

		ipc.MethodAccountSignTransaction: {tx},
		ipc.MethodAccountSignData:        {`"text/plain",` + account + `,"0x00"`},
		ipc.MethodAccountSignTypedData:   {account + "," + data},
		ipc.MethodEthSign:                {account + `,"0x00"`},
		ipc.MethodEthSignTransaction:     {tx},
		ipc.MethodEthSignTypedData:       {account + "," + data},
		ipc.MethodEthSignTypedDataV4:     {account + "," + data},
		ipc.MethodPersonalSign:           {`"0x00",` + account},
	}
}

// checkSeesOnly looks for a relay's wallet in every way that finds one.
func checkSeesOnly(t *testing.T, r *relay, w ipc.WalletInfo) {
	t.Helper()
	for _, filter := range []string{"{}", `{"owner":"alice"}`, `{"tag":"t"}`, `{"tag":"t","owner":"alice"}`, `{"state":"active"}`} {
		var list ipc.ListWalletsResult
		if err := r.call(ipc.MethodListWallets, filter, &list); err != nil || len(list.Wallets) != 1 ||
			list.Wallets[0].WalletID.String() != w.WalletID.String() || list.Wallets[0].AttemptsLeft != 10 {
			t.Errorf("%s lists %+v, %v", filter, list, err)
		}
	}
	var found ipc.WalletInfo
	if err := r.call(ipc.MethodGetWallet, `{"externalId":"user:1"}`, &found); err != nil || found.WalletID.String() != w.WalletID.String() {
		t.Errorf("user:1 is %+v, %v", found, err)
	}
}

// TestOnlyOperatorsDoWhatIsTheirs: a relay freezes its own wallet and cannot
// take that back, nor reach for all.
func TestOnlyOperatorsDoWhatIsTheirs(t *testing.T) {
	relay := own
	if canBeOthers(t) {
		relay = relayUID
	}
	h := openToAll(t, "allow = "+uids(own, relayUID)+"\noperators = "+uids(strangerUID))
	r := newRelay(t, h, relay)
	w := r.made("1")
	id := fmt.Sprintf(`{"walletId":%q}`, w.WalletID)
	var info ipc.WalletInfo
	if err := r.call(ipc.MethodFreezeWallet, id, &info); err != nil || info.State != "frozen" || info.FrozenBy != "relay" {
		t.Fatalf("%+v, %v", info, err)
	}
	for _, method := range []string{ipc.MethodUnfreezeWallet, ipc.MethodRestoreWallet} {
		wantReason(t, r.call(method, id, nil), "operatorOnly")
	}
	wantReason(t, r.call(ipc.MethodGiveBackAttempts, fmt.Sprintf(`{"walletId":%q,"attempts":1}`, w.WalletID), nil), "operatorOnly")
	wantReason(t, r.call(ipc.MethodFreezeAll, "{}", nil), "operatorOnly")
	wantReason(t, r.call(ipc.MethodDeleteWallet, fmt.Sprintf(`{"walletId":%q,"requestId":"2"}`, w.WalletID), nil), ipc.ReasonInvalidParams)
	stop(t, h)
	h.Config["socket"] = "mode = \"0666\"\n" + bothRelays()
	if err := h.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	start(t, h)
	operator := dial(t, h.Socket)
	if info, err := operator.UnfreezeWallet(testContext(t), ipc.UnfreezeParams{WalletID: w.WalletID}); err != nil || info.State != "active" {
		t.Errorf("the operator: %+v, %v", info, err)
	}
	if n, err := operator.FreezeAll(testContext(t)); err != nil || n.Wallets != 1 {
		t.Errorf("the operator: %+v, %v", n, err)
	}
	if err := newRelay(t, h, relay).call(ipc.MethodGetWallet, id, &info); err != nil || info.FrozenBy != "freezeAll" {
		t.Errorf("%+v, %v", info, err)
	}
}
