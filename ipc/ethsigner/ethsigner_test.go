package ethsigner_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math/big"
	"net"
	"path/filepath"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/signer/core/apitypes"
	"github.com/holiman/uint256"

	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ethsigner"
	"github.com/sigild/sigild/ipc/ipctest"
)

func account(t *testing.T, o ipc.Options) *ethsigner.Account {
	t.Helper()
	_, path := ipctest.Serve(t, o)
	return dialAccount(t, path)
}

func dialAccount(t *testing.T, path string) *ethsigner.Account {
	t.Helper()
	c, err := ipc.Dial(t.Context(), path, ipc.PlainPINs())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return ethsigner.New(c, common.HexToAddress(address))
}

func transfer() *types.Transaction {
	to := common.HexToAddress("0x9858EfFD232B4033E47d90003D41EC34EcaEda94")
	return types.NewTx(&types.DynamicFeeTx{ChainID: big.NewInt(1), GasFeeCap: big.NewInt(9), GasTipCap: big.NewInt(1), Gas: 21000, To: &to, Value: big.NewInt(5)})
}

func mail() apitypes.TypedData {
	return apitypes.TypedData{PrimaryType: "Mail", Types: apitypes.Types{
		"EIP712Domain": {{Name: "name", Type: "string"}}, "Mail": {{Name: "data", Type: "bytes"}, {Name: "list", Type: "uint256[]"}}},
		Domain:  apitypes.TypedDataDomain{Name: "Mail"},
		Message: apitypes.TypedDataMessage{"data": []byte{1}, "list": []any{big.NewInt(2), "3"}}}
}

// everything calls each method that returns a signature.
func everything(ctx context.Context, a *ethsigner.Account) map[string]error {
	errs := map[string]error{}
	_, errs["transaction"] = a.SignTx(ctx, transfer(), big.NewInt(1))
	_, errs["message"] = a.SignMessage(ctx, []byte("hello"))
	_, errs["typed data"] = a.SignTypedData(ctx, mail())
	_, errs["authorization"] = a.SignAuthorization(ctx, types.SetCodeAuthorization{ChainID: *uint256.NewInt(1), Nonce: 1})
	d, err := a.Digests(ctx)
	if err == nil {
		_, err = d.Sign(nil, make([]byte, 32), nil)
	}
	errs["digest"] = err
	return errs
}

func TestHonestAnswersPass(t *testing.T) {
	for name, err := range everything(t.Context(), account(t, options(signing))) {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A signature by another key, or over something else, never gets through; that of
// a transaction or an authorization over something else has another signer.
func TestLiesAreFound(t *testing.T) {
	const otherKey = "c71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291"
	for name, sign := range map[string]signed{
		"another key": func(d [32]byte) (r, s [32]byte, v byte, err error) { return signWith(otherKey, d) },
		"another digest": func(d [32]byte) (r, s [32]byte, v byte, err error) {
			d[0] ^= 1
			return signing(d)
		},
	} {
		errs := everything(t.Context(), account(t, options(sign)))
		for _, what := range []string{"transaction", "message", "typed data", "authorization", "digest"} {
			if !errors.Is(errs[what], ethsigner.ErrAnswer) {
				t.Errorf("%s, %s: %v", name, what, errs[what])
			}
		}
	}
}

func TestAnotherTransactionIsFound(t *testing.T) {
	o := options(signing)
	swapped := func(p ipc.SignTransactionParams) (any, error) {
		p.Transaction = []byte(`{"type":"0x2","chainId":"0x1","nonce":"0x0","gas":"0x5208","to":"0x0000000000000000000000000000000000000001","value":"0x5","maxFeePerGas":"0x9","maxPriorityFeePerGas":"0x1"}`)
		return signed(signing).transaction(p)
	}
	o.Methods[ipc.MethodSignTransaction] = answer(swapped)
	o.Methods[ipc.MethodSignAuthorization] = answer(func(p ipc.SignPayloadParams) (any, error) {
		p.Payload = []byte(`{"chainId":"0x1","address":"0x0000000000000000000000000000000000000001","nonce":"0x1"}`)
		return signed(signing).authorization(p)
	})
	o.Methods[ipc.MethodSignMessage] = answer(func(ipc.SignMessageParams) (any, error) { return ipc.SignMessageResult{}, nil })
	errs := everything(t.Context(), account(t, o))
	for _, what := range []string{"transaction", "authorization", "message"} {
		if !errors.Is(errs[what], ethsigner.ErrAnswer) {
			t.Errorf("%s: %v", what, errs[what])
		}
	}
}

// losing serves a socket whose first connection ends before the answer.
func losing(t *testing.T) string {
	t.Helper()
	_, behind := ipctest.Serve(t, options(signing))
	path := filepath.Join(ipctest.Directory(t), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		first, err := ln.Accept()
		if err != nil {
			return
		}
		_, _ = bufio.NewReader(first).ReadString('\n')
		_ = first.Close()
		second, err := ln.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("unix", behind)
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(second, to) }()
		_, _ = io.Copy(to, second)
		_ = to.Close()
	}()
	return path
}

// A lost answer is asked for again, but not where a PIN was given: the check
// may have been charged.
func TestLostAnswer(t *testing.T) {
	if _, err := dialAccount(t, losing(t)).SignMessage(t.Context(), []byte("hello")); err != nil {
		t.Errorf("without a PIN: %v", err)
	}
	a := dialAccount(t, losing(t))
	a.PIN = func(context.Context) (ipc.Secret, error) { return ipc.Secret("402916"), nil }
	if _, err := a.SignMessage(t.Context(), []byte("hello")); !errors.Is(err, ipc.ErrConnectionLost) {
		t.Errorf("with a PIN: %v", err)
	}
}

// Contract bindings leave the chain id of a transaction at 0.
func TestTransactionWithoutAChain(t *testing.T) {
	a := account(t, options(signing))
	to := a.Address()
	tx := types.NewTx(&types.DynamicFeeTx{GasFeeCap: big.NewInt(9), GasTipCap: big.NewInt(1), Gas: 21000, To: &to, Value: new(big.Int)})
	signed, err := a.SignTx(t.Context(), tx, big.NewInt(5))
	if err != nil || signed.ChainId().Int64() != 5 {
		t.Errorf("%v, %v", signed, err)
	}
	if _, err := a.SignTx(t.Context(), transfer(), big.NewInt(5)); !errors.Is(err, ethsigner.ErrChain) {
		t.Errorf("another chain: %v", err)
	}
}
