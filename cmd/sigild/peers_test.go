package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

// openToAll lets these uids in, and lets every user reach the socket, so that
// only the daemon's own check stands in the way.
func openToAll(t *testing.T, socket string, change ...func(*daemontest.Options)) *daemontest.Host {
	t.Helper()
	h := newHost(t, append([]func(*daemontest.Options){withConfig(map[string]string{"socket": "mode = \"0666\"\n" + socket,
		"pin": cheapPIN + "\nplain_from = " + uids(own, relayUID, strangerUID)})}, change...)...)
	if err := os.Chmod(h.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	provision(t, h)
	start(t, h)
	return h
}

// relay is a relay that runs as another user.
type relay struct {
	t       *testing.T
	in      io.WriteCloser
	answers *json.Decoder
	ended   func() error
	wallet  ipc.WalletInfo // its own, where a test gives it one
}

func newRelay(t *testing.T, h *daemontest.Host, uid int) *relay {
	t.Helper()
	cmd := relayCommand(t, h, uid)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := &relay{t: t, in: in, answers: json.NewDecoder(out), ended: cmd.Wait}
	t.Cleanup(func() { _ = in.Close(); _ = r.ended() })
	return r
}

// call makes one request. The PIN, if any, is in params.
func (r *relay) call(method, params string, result any) error {
	r.t.Helper()
	if _, err := fmt.Fprintf(r.in, `{"jsonrpc":"2.0","id":1,"method":%q,"params":[%s]}`+"\n", method, params); err != nil {
		return err
	}
	var answer struct {
		Result json.RawMessage
		Error  *ipc.Error
	}
	if err := r.answers.Decode(&answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return answer.Error
	}
	return json.Unmarshal(answer.Result, result)
}

func TestRelaysDoNotSeeEachOthersWallets(t *testing.T) {
	if !canBeOthers(t) {
		t.Log("TestRelaysShareNothing has the part that needs one user only")
		return
	}
	h := openToAll(t, "allow = "+uids(own, relayUID))
	c := dial(t, h.Socket)
	mine := create(t, c, "1")
	other := newRelay(t, h, relayUID)
	var made ipc.CreateWalletResult
	err := other.call(ipc.MethodCreateWallet, fmt.Sprintf(`{"requestId":"1","owner":"alice","pin":%q}`, rightPIN), &made)
	if err != nil || made.Existing || made.Wallet.WalletID.String() == mine.WalletID.String() {
		t.Fatalf("the same request id of another relay: %+v, %v", made, err)
	}
	byID := fmt.Sprintf(`{"walletId":%q`, mine.WalletID)
	byAddress := fmt.Sprintf(`{"address":%q`, mine.Accounts[0].Address)
	pin := fmt.Sprintf(`,"pin":%q`, rightPIN)
	for method, params := range map[string][]string{
		ipc.MethodGetWallet:       {byID + "}", byAddress + "}"},
		ipc.MethodDeriveAccount:   {byID + `,"requestId":"2"` + pin + "}"},
		ipc.MethodSignMessage:     {byID + `,"message":"0x00"` + pin + "}", byAddress + `,"message":"0x00"` + pin + "}"},
		ipc.MethodSignTransaction: {byID + `,"transaction":` + fmt.Sprintf(dynamicFee, 0) + pin + "}"},
	} {
		for _, p := range params {
			wantReason(t, other.call(method, p, nil), "notFound")
		}
	}
	var list ipc.ListWalletsResult
	if err := other.call(ipc.MethodListWallets, "{}", &list); err != nil || len(list.Wallets) != 1 ||
		list.Wallets[0].WalletID.String() != made.Wallet.WalletID.String() {
		t.Errorf("the other relay lists %+v, %v", list, err)
	}
	if n := countWallets(t, c); n != 1 {
		t.Errorf("the first relay lists %d wallets", n)
	}
	if left := attemptsLeft(t, c, mine.WalletID); left != 10 {
		t.Errorf("another relay cost an attempt: %d left", left)
	}
}

// TestStrangersAreNotLetIn: nobody is but those on the list, and without a list the
// daemon's own user and root.
func TestStrangersAreNotLetIn(t *testing.T) {
	if !canBeOthers(t) {
		t.Log("TestUserIsNotLetInUnlessListed has the part that needs one user only")
		return
	}
	for name, allow := range map[string]string{"a list": "allow = " + uids(own, relayUID), "no list": ""} {
		t.Run(name, func(t *testing.T) {
			h := openToAll(t, allow)
			wantReason(t, newRelay(t, h, strangerUID).call(ipc.MethodStatus, "{}", nil), ipc.ReasonPeerNotAllowed)
			if _, err := dial(t, h.Socket).Status(testContext(t)); err != nil {
				t.Errorf("the daemon's user after a stranger: %v", err)
			}
		})
	}
}

// TestUserIsNotLetInUnlessListed: the daemon's own user, root too, is a stranger
// where others are listed.
func TestUserIsNotLetInUnlessListed(t *testing.T) {
	h := openToAll(t, "allow = "+uids(relayUID))
	_, err := dial(t, h.Socket).Status(testContext(t))
	wantReason(t, err, ipc.ReasonPeerNotAllowed)
	wantReason(t, newRelay(t, h, own).call(ipc.MethodStatus, "{}", nil), ipc.ReasonPeerNotAllowed)
	if !canBeOthers(t) {
		return
	}
	var status ipc.StatusResult
	if err := newRelay(t, h, relayUID).call(ipc.MethodStatus, "{}", &status); err != nil || status.State != "ready" {
		t.Errorf("%+v, %v", status, err)
	}
}

// TestSocketModeKeepsOthersOut leaves the mode at its default.
func TestSocketModeKeepsOthersOut(t *testing.T) {
	h, _ := serving(t)
	if err := os.Chmod(h.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(h.Socket)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Fatalf("the socket's mode is %v, %v", info.Mode(), err)
	}
	if !canBeOthers(t) {
		return
	}
	var exit *exec.ExitError
	if err := relayCommand(t, h, strangerUID).Run(); !errors.As(err, &exit) {
		t.Errorf("a stranger connects: %v", err)
	}
}
