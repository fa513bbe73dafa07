package ethsigner_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"
	"math/big"
	"os"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/math"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/signer/core/apitypes"
	"github.com/holiman/uint256"

	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ethsigner"
)

func connect() (*ethsigner.Account, func() error) {
	// PlainPINs suits the daemon's own user; others pin ipc.Identity and seal.
	client, err := ipc.Dial(context.Background(), os.Getenv("SIGILD_SOCKET"), ipc.PlainPINs())
	if err != nil {
		log.Fatal(err)
	}
	return ethsigner.New(client, common.HexToAddress("0x71562b71999873DB5b286dF957af199Ec94617F7")), client.Close
}

func ExampleAccount_SignTx() {
	account, done := connect()
	defer done()
	chain := big.NewInt(1)
	to := common.HexToAddress("0x9858EfFD232B4033E47d90003D41EC34EcaEda94")
	tx := types.NewTx(&types.DynamicFeeTx{ChainID: chain, Nonce: 0, To: &to, Value: big.NewInt(1e18), Gas: 21000,
		GasFeeCap: big.NewInt(20e9), GasTipCap: big.NewInt(1e9)})
	signed, err := account.SignTx(context.Background(), tx, chain)
	if errors.Is(err, ethsigner.ErrUnlockRequired) {
		log.Fatal(err) // unlock it first: sigilctl unlock
	}
	if err != nil {
		log.Fatal(err)
	}
	sender, err := types.Sender(types.LatestSignerForChainID(chain), signed)
	fmt.Println(sender, err)
	// Output: 0x71562b71999873DB5b286dF957af199Ec94617F7 <nil>
}

// TransactOpts goes into the contract bindings that abigen makes, and into
// bind.DeployContract; SignerFn is the part of it that signs.
func ExampleAccount_TransactOpts() {
	account, done := connect()
	defer done()
	opts := account.TransactOpts(context.Background(), big.NewInt(1))
	tx := types.NewTx(&types.LegacyTx{Nonce: 7, To: &opts.From, Gas: 21000, GasPrice: big.NewInt(1e9), Value: new(big.Int)})
	signed, err := opts.Signer(opts.From, tx)
	fmt.Println(signed.Nonce(), signed.ChainId(), err)
	// Output: 7 1 <nil>
}

// SignerFn is what older bindings take. It signs for its own account only.
func ExampleAccount_SignerFn() {
	account, done := connect()
	defer done()
	sign := account.SignerFn(context.Background(), big.NewInt(1))
	to := common.HexToAddress("0x9858EfFD232B4033E47d90003D41EC34EcaEda94")
	tx := types.NewTx(&types.DynamicFeeTx{ChainID: big.NewInt(1), Nonce: 3, To: &to, Gas: 21000,
		GasFeeCap: big.NewInt(20e9), GasTipCap: big.NewInt(1e9)})
	signed, err := sign(account.Address(), tx)
	fmt.Println(signed.Nonce(), err)
	_, err = sign(to, tx)
	fmt.Println(err)
	// Output:
	// 3 <nil>
	// not authorized to sign this account
}

func ExampleAccount_SignMessage() {
	account, done := connect()
	defer done()
	signature, err := account.SignMessage(context.Background(), []byte("hello"))
	fmt.Println(len(signature), err)
	// Output: 65 <nil>
}

func ExampleAccount_SignTypedData() {
	account, done := connect()
	defer done()
	signature, err := account.SignTypedData(context.Background(), apitypes.TypedData{
		Types: apitypes.Types{
			"EIP712Domain": {{Name: "name", Type: "string"}, {Name: "chainId", Type: "uint256"}},
			"Order":        {{Name: "amount", Type: "uint256"}},
		},
		PrimaryType: "Order",
		Domain:      apitypes.TypedDataDomain{Name: "Shop", ChainId: (*math.HexOrDecimal256)(big.NewInt(1))},
		Message:     apitypes.TypedDataMessage{"amount": big.NewInt(5)},
	})
	fmt.Println(len(signature), err)
	// Output: 65 <nil>
}

func ExampleAccount_SignAuthorization() {
	account, done := connect()
	defer done()
	signed, err := account.SignAuthorization(context.Background(), types.SetCodeAuthorization{
		ChainID: *uint256.NewInt(1), Address: common.HexToAddress("0x9858EfFD232B4033E47d90003D41EC34EcaEda94"), Nonce: 1})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(signed.Authority())
	// Output: 0x71562b71999873DB5b286dF957af199Ec94617F7 <nil>
}

// With PIN set, every signature asks for it, and no unlock is needed.
func ExampleAccount_pin() {
	account, done := connect()
	defer done()
	account.PIN = func(context.Context) (ipc.Secret, error) { return ipc.Secret("402916"), nil }
	_, err := account.SignMessage(context.Background(), []byte("hello"))
	fmt.Println(err)
	// Output: <nil>
}

// Digests needs a wallet whose policy allows "rawDigest".
func ExampleAccount_Digests() {
	account, done := connect()
	defer done()
	signer, err := account.Digests(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	digest := sha256.Sum256([]byte("hello"))
	signature, err := signer.Sign(nil, digest[:], nil)
	fmt.Println(ecdsa.VerifyASN1(signer.Public().(*ecdsa.PublicKey), digest[:], signature), err)
	// Output: true <nil>
}
