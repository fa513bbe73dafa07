package ethsigner_test

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/sigild/sigild/daemon/eth"
	"github.com/sigild/sigild/ipc"
)

// These tests talk to a scripted daemon with a key in memory: it can lie and
// hang up. The real one is tested with this package in cmd/sigild.
const (
	keyHex  = "b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291"
	address = "0x71562b71999873DB5b286dF957af199Ec94617F7"
)

func TestMain(m *testing.M) {
	os.Exit(serveAndRun(m))
}

// serveAndRun serves what the examples use while the tests run.
func serveAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ethsigner")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "sigild.sock")
	ln, err := ipc.Listen(path, 0o600, -1)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ipc.NewServer(options(signing)).Serve(ctx, ln) }()
	defer func() { stop(); <-done }()
	if err := os.Setenv("SIGILD_SOCKET", path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// signed is what the scripted daemon makes of a digest.
type signed func(digest [32]byte) (r, s [32]byte, recovery byte, err error)

// signing signs by the key.
func signing(digest [32]byte) (r, s [32]byte, recovery byte, err error) {
	return signWith(keyHex, digest)
}

func signWith(key string, digest [32]byte) (r, s [32]byte, recovery byte, err error) {
	private, err := crypto.HexToECDSA(key)
	if err != nil {
		return r, s, 0, err
	}
	sig, err := crypto.Sign(digest[:], private)
	if err != nil {
		return r, s, 0, err
	}
	return [32]byte(sig[:32]), [32]byte(sig[32:64]), sig[64], nil
}

func options(sign signed) ipc.Options {
	return ipc.Options{Allow: func(ipc.Peer) bool { return true }, Methods: map[string]ipc.Handler{
		ipc.MethodSignTransaction: answer(func(p ipc.SignTransactionParams) (any, error) { return sign.transaction(p) }),
		ipc.MethodSignMessage: answer(func(p ipc.SignMessageParams) (any, error) {
			return sign.plain(eth.MessageDigest(p.Message))
		}),
		ipc.MethodSignTypedData: answer(func(p ipc.SignPayloadParams) (any, error) {
			digest, _, err := eth.TypedDataDigest(p.Payload)
			if err != nil {
				return nil, err
			}
			return sign.plain(digest)
		}),
		ipc.MethodSignAuthorization: answer(func(p ipc.SignPayloadParams) (any, error) { return sign.authorization(p) }),
		ipc.MethodSignDigest:        answer(func(p ipc.SignDigestParams) (any, error) { return sign.plain([32]byte(p.Digest)) }),
		ipc.MethodGetWallet:         answer(func(ipc.GetWalletParams) (any, error) { return wallet() }),
	}}
}

func answer[P any](method func(P) (any, error)) ipc.Handler {
	return func(_ context.Context, raw json.RawMessage) (any, error) {
		p, err := ipc.Decode[P](raw)
		if err != nil {
			return nil, err
		}
		return method(p)
	}
}

func wallet() (*ipc.WalletInfo, error) {
	key, err := crypto.HexToECDSA(keyHex)
	if err != nil {
		return nil, err
	}
	return &ipc.WalletInfo{Policy: &ipc.Policy{Operations: []string{"rawDigest"}},
		Accounts: []ipc.AccountInfo{{Curve: "secp256k1", PublicKey: crypto.FromECDSAPub(key.Public().(*ecdsa.PublicKey)), Address: address}}}, nil
}

func (sign signed) plain(digest [32]byte) (any, error) {
	r, s, recovery, err := sign(digest)
	if err != nil {
		return nil, err
	}
	signature, err := eth.SignatureBytes(r, s, recovery)
	return ipc.SignPayloadResult{Signature: signature, Digest: digest[:]}, err
}

// signerOf is whoever signed: the real daemon's code puts only a signature by the
// right account into an answer, and this one lies.
func signerOf(digest, r, s [32]byte, recovery byte) common.Address {
	key, err := crypto.SigToPub(digest[:], append(append(r[:], s[:]...), recovery))
	if err != nil {
		return common.Address{}
	}
	return crypto.PubkeyToAddress(*key)
}

func (sign signed) transaction(p ipc.SignTransactionParams) (any, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(p.Transaction, &fields); err != nil {
		return nil, err
	}
	delete(fields, "from") // which binds the answer to the right account
	anybodys, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	tx, err := eth.ParseTransaction(anybodys)
	if err != nil {
		return nil, err
	}
	r, s, recovery, err := sign(tx.SigningDigest())
	if err != nil {
		return nil, err
	}
	out, err := tx.WithSignature(r, s, recovery, signerOf(tx.SigningDigest(), r, s, recovery))
	if err != nil {
		return nil, err
	}
	return ipc.SignTransactionResult{Raw: ipc.Hex(out.Raw), Hash: out.Hash[:], Transaction: out.Transaction}, nil
}

func (sign signed) authorization(p ipc.SignPayloadParams) (any, error) {
	a, err := eth.ParseAuthorization(p.Payload)
	if err != nil {
		return nil, err
	}
	r, s, recovery, err := sign(a.SigningDigest())
	if err != nil {
		return nil, err
	}
	text, err := a.WithSignature(r, s, recovery, signerOf(a.SigningDigest(), r, s, recovery))
	return ipc.SignPayloadResult{Signed: text}, err
}
