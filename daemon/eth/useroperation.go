package eth

import (
	"bytes"
	"encoding/json"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/holiman/uint256"
)

// packedUserOperationType is the EIP-712 type of ERC-4337's entry point 0.8.
const packedUserOperationType = "PackedUserOperation(address sender,uint256 nonce,bytes initCode,bytes callData," +
	"bytes32 accountGasLimits,uint256 preVerificationGas,bytes32 gasFees,bytes paymasterAndData)"

func packedUserOperationTypeHash() [32]byte {
	return crypto.Keccak256Hash([]byte(packedUserOperationType))
}

// UserOperation is an unsigned ERC-4337 user operation.
type UserOperation struct {
	digest [32]byte
	facts  Facts
}

// packedOperation holds the fields of a packed user operation.
type packedOperation struct {
	sender             common.Address
	nonce              *uint256.Int
	initCode, callData []byte
	verificationGas    *uint256.Int
	callGas            *uint256.Int
	accountGasLimits   common.Hash
	preVerificationGas *uint256.Int
	maxFeePerGas       *uint256.Int
	gasFees            common.Hash
	paymasterAndData   []byte
}

// ParseUserOperation reads the object {chainId, entryPoint, userOperation,
// delegate}. userOperation is the packed form of the entry point 0.8: sender,
// nonce, initCode, callData, accountGasLimits (verification gas ‖ call gas, 16
// bytes each), preVerificationGas, gasFees (priority fee ‖ maximum fee per gas,
// 16 bytes each) and paymasterAndData, all required; a "signature" may be there
// if it is "0x".
//
// delegate is needed if and only if initCode starts with the EIP-7702 marker
// 0x7702: it is the contract that the sender delegates to, which the entry
// point looks up on the chain and hashes in the marker's place.
//
// Errors are of type *FieldError with paths below "userOperation".
func ParseUserOperation(raw json.RawMessage) (*UserOperation, error) {
	operation, err := parseUserOperation(raw)
	if err != nil {
		return nil, at("userOperation", err)
	}
	return operation, nil
}

func parseUserOperation(raw json.RawMessage) (*UserOperation, error) {
	tree, err := parseJSON(raw)
	if err != nil {
		return nil, err
	}
	f, err := rootFields(tree, []string{"chainId", "entryPoint", "userOperation", "delegate"})
	if err != nil {
		return nil, err
	}
	if err := f.require("chainId", "entryPoint", "userOperation"); err != nil {
		return nil, err
	}
	chainID, err := read(f, "chainId", value.chainID)
	if err != nil {
		return nil, err
	}
	if chainID == 0 {
		return nil, at("chainId", problem("must not be 0: a user operation is for one chain"))
	}
	entryPoint, err := read(f, "entryPoint", value.address)
	if err != nil {
		return nil, err
	}
	packed, err := read(f, "userOperation", parsePacked)
	if err != nil {
		return nil, err
	}
	initCode, err := packed.hashedInitCode(f)
	if err != nil {
		return nil, err
	}
	return newUserOperation(chainID, entryPoint, packed, initCode), nil
}

func newUserOperation(chainID uint64, entryPoint common.Address, p packedOperation, initCode []byte) *UserOperation {
	facts := Facts{
		Operation: OperationUserOperation,
		Recipient: lowerHex(entryPoint),
		MaxCost:   p.maxCost(),
	}
	facts.setChain(chainID)
	facts.setCallData(p.callData)
	separator := entryPointDomain(chainID, entryPoint)
	return &UserOperation{digest: typedDigest(separator, p.hash(initCode)), facts: facts}
}

// SigningDigest returns the user operation's hash of the entry point 0.8, which
// is an EIP-712 digest in the domain "ERC4337", version "1".
func (u *UserOperation) SigningDigest() [32]byte { return u.digest }

// Facts returns what a policy may decide on. The recipient is the entry point;
// MaxCost is an upper bound also where a paymaster pays; Value is unknown.
func (u *UserOperation) Facts() Facts { return u.facts.clone() }

func parsePacked(v value) (p packedOperation, err error) {
	f, err := packedFields(v)
	if err != nil {
		return p, err
	}
	if p.sender, err = read(f, "sender", value.address); err != nil {
		return p, err
	}
	if p.nonce, err = read(f, "nonce", value.word); err != nil {
		return p, err
	}
	if p.initCode, err = read(f, "initCode", value.bytes); err != nil {
		return p, err
	}
	if p.callData, err = read(f, "callData", value.bytes); err != nil {
		return p, err
	}
	if p.paymasterAndData, err = read(f, "paymasterAndData", paymaster); err != nil {
		return p, err
	}
	return p, p.parseGas(f)
}

// packedFields lets an empty signature stand, which client libraries send.
func packedFields(v value) (fields, error) {
	required := []string{
		"sender", "nonce", "initCode", "callData", "accountGasLimits", "preVerificationGas", "gasFees", "paymasterAndData",
	}
	f, err := knownFields(v, false, append(required, "signature"))
	if err != nil {
		return nil, err
	}
	if f.has("signature") && (f["signature"].kind != text || f["signature"].text != "0x") {
		return nil, at("signature", problem(`must be absent or "0x": it is what is asked for`))
	}
	return f, f.require(required...)
}

func (p *packedOperation) parseGas(f fields) (err error) {
	if p.accountGasLimits, err = read(f, "accountGasLimits", value.hash); err != nil {
		return err
	}
	if p.gasFees, err = read(f, "gasFees", value.hash); err != nil {
		return err
	}
	if p.preVerificationGas, err = read(f, "preVerificationGas", value.word); err != nil {
		return err
	}
	p.verificationGas = half(p.accountGasLimits[:16])
	p.callGas = half(p.accountGasLimits[16:])
	p.maxFeePerGas = half(p.gasFees[16:])
	if tooMuchGas(p.verificationGas, p.callGas) {
		return at("accountGasLimits", problem("has a half above 2^120-1, which the entry point refuses"))
	}
	if tooMuchGas(half(p.gasFees[:16]), p.maxFeePerGas) {
		return at("gasFees", problem("has a half above 2^120-1, which the entry point refuses"))
	}
	if tooMuchGas(p.preVerificationGas) {
		return at("preVerificationGas", problem("is above 2^120-1, which the entry point refuses"))
	}
	return nil
}

func half(b []byte) *uint256.Int { return new(uint256.Int).SetBytes(b) }

// tooMuchGas reports whether the entry point refuses one of the numbers ("AA94
// gas values overflow"). Below it, no product of them exceeds 256 bits.
func tooMuchGas(numbers ...*uint256.Int) bool {
	for _, number := range numbers {
		if number.BitLen() > 120 {
			return true
		}
	}
	return false
}

// paymaster reads paymasterAndData: nothing, or address ‖ verification gas ‖
// post-operation gas ‖ data.
func paymaster(v value) ([]byte, error) {
	data, err := v.bytes()
	if err != nil {
		return nil, err
	}
	if len(data) > 0 && len(data) < 52 {
		return nil, problem("must be empty or 52 bytes or more: paymaster ‖ verification gas ‖ post-operation gas")
	}
	if len(data) > 0 && tooMuchGas(half(data[20:36]), half(data[36:52])) {
		return nil, problem("has a gas limit above 2^120-1, which the entry point refuses")
	}
	return data, nil
}

// maxCost is the entry point's required prefund.
func (p *packedOperation) maxCost() *big.Int {
	gas := new(big.Int).Add(p.verificationGas.ToBig(), p.callGas.ToBig())
	gas.Add(gas, p.preVerificationGas.ToBig())
	if len(p.paymasterAndData) > 0 {
		gas.Add(gas, new(big.Int).SetBytes(p.paymasterAndData[20:36]))
		gas.Add(gas, new(big.Int).SetBytes(p.paymasterAndData[36:52]))
	}
	return gas.Mul(gas, p.maxFeePerGas.ToBig())
}

// hashedInitCode returns the bytes that the entry point hashes for initCode: with
// the EIP-7702 marker, the delegate takes the place of its first 20 bytes.
func (p *packedOperation) hashedInitCode(f fields) ([]byte, error) {
	if !p.delegated() {
		if f.has("delegate") {
			return nil, at("delegate", problem("contradicts initCode, which does not start with the EIP-7702 marker"))
		}
		if len(p.initCode) > 0 && len(p.initCode) < common.AddressLength {
			return nil, at("userOperation", at("initCode", problem("must be empty or start with a factory's 20-byte address")))
		}
		return p.initCode, nil
	}
	if !f.has("delegate") {
		return nil, at("delegate", problem("is required, since initCode starts with the EIP-7702 marker"))
	}
	delegate, err := read(f, "delegate", value.address)
	if err != nil {
		return nil, err
	}
	rest := p.initCode[min(len(p.initCode), common.AddressLength):]
	return append(delegate.Bytes(), rest...), nil
}

// delegated reports whether initCode starts with the marker 0x7702, which the
// entry point reads as 20 bytes, with zeros after a shorter initCode.
func (p *packedOperation) delegated() bool {
	if len(p.initCode) < 2 {
		return false
	}
	var start [common.AddressLength]byte
	copy(start[:], p.initCode)
	return start == [common.AddressLength]byte{0x77, 0x02}
}

// hash is hashStruct of the packed user operation.
func (p *packedOperation) hash(initCode []byte) [32]byte {
	typeHash, nonce, gas := packedUserOperationTypeHash(), p.nonce.Bytes32(), p.preVerificationGas.Bytes32()
	return crypto.Keccak256Hash(bytes.Join([][]byte{
		typeHash[:],
		common.LeftPadBytes(p.sender[:], 32),
		nonce[:],
		crypto.Keccak256(initCode),
		crypto.Keccak256(p.callData),
		p.accountGasLimits[:],
		gas[:],
		p.gasFees[:],
		crypto.Keccak256(p.paymasterAndData),
	}, nil))
}

// entryPointDomain is the domain separator of an entry point 0.8.
func entryPointDomain(chainID uint64, entryPoint common.Address) [32]byte {
	chain := uint256.NewInt(chainID).Bytes32()
	return crypto.Keccak256Hash(
		crypto.Keccak256([]byte("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")),
		crypto.Keccak256([]byte("ERC4337")),
		crypto.Keccak256([]byte("1")),
		chain[:],
		common.LeftPadBytes(entryPoint[:], 32),
	)
}
