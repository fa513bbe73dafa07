package eth

import (
	"encoding/hex"
	"math"
	"math/big"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"
)

// maxChainID is the largest chain id that every client can handle, since
// 2·chainId + 36, the v of EIP-155, must fit in 64 bits (EIP-2294).
const maxChainID = math.MaxUint64/2 - 36

// hexDigits returns what follows "0x" in a JSON string.
func (v value) hexDigits() (string, error) {
	if v.kind != text {
		return "", problem("must be a string in hexadecimal that starts with 0x, not %s", v.kind)
	}
	digits, found := strings.CutPrefix(v.text, "0x")
	if !found {
		return "", problem("must start with 0x")
	}
	for i := range len(digits) {
		if !isHexDigit(digits[i]) {
			return "", problem("has a character that is no hexadecimal digit")
		}
	}
	return digits, nil
}

func isHexDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// quantity reads an unsigned number of at most 256 bits in the encoding of
// Ethereum JSON-RPC.
func (v value) quantity() (*big.Int, error) {
	digits, err := v.hexDigits()
	switch {
	case err != nil:
		return nil, err
	case digits == "":
		return nil, problem(`needs a digit: zero is "0x0"`)
	case digits[0] == '0' && len(digits) > 1:
		return nil, problem("must not have leading zeros")
	case len(digits) > 64:
		return nil, problem("is larger than 256 bits")
	}
	number, _ := new(big.Int).SetString(digits, 16)
	return number, nil
}

// word is quantity for the types of go-ethereum that hold a 256-bit word.
func (v value) word() (*uint256.Int, error) {
	number, err := v.quantity()
	if err != nil {
		return nil, err
	}
	return uint256.MustFromBig(number), nil
}

func (v value) uint64() (uint64, error) {
	number, err := v.quantity()
	if err != nil {
		return 0, err
	}
	if !number.IsUint64() {
		return 0, problem("is larger than 64 bits")
	}
	return number.Uint64(), nil
}

// transactionType reads an EIP-2718 type, also as the one-digit number that
// programs in Python send.
func (v value) transactionType() (uint64, error) {
	if v.kind == number && len(v.text) == 1 {
		return uint64(v.text[0] - '0'), nil
	}
	return v.uint64()
}

// nonce reads an account's nonce, which EIP-2681 keeps below 2^64-1.
func (v value) nonce() (uint64, error) {
	nonce, err := v.uint64()
	if err == nil && nonce == math.MaxUint64 {
		return 0, problem("must be less than 2^64-1 (EIP-2681)")
	}
	return nonce, err
}

// chainID reads a chain id. Zero is for the caller to judge.
func (v value) chainID() (uint64, error) {
	number, err := v.quantity()
	if err != nil {
		return 0, err
	}
	return boundChainID(number)
}

func boundChainID(number *big.Int) (uint64, error) {
	if !number.IsUint64() || number.Uint64() > maxChainID {
		return 0, problem("is larger than the largest chain id, %d (EIP-2294)", uint64(maxChainID))
	}
	return number.Uint64(), nil
}

// bytes reads data of any length.
func (v value) bytes() ([]byte, error) {
	digits, err := v.hexDigits()
	if err != nil {
		return nil, err
	}
	data, err := hex.DecodeString(digits)
	if err != nil {
		return nil, problem("must be whole bytes: it has an odd number of digits")
	}
	return data, nil
}

// fixedBytes reads exactly len(dst) bytes of data.
func (v value) fixedBytes(dst []byte) error {
	data, err := v.bytes()
	if err != nil {
		return err
	}
	if len(data) != len(dst) {
		return problem("must be %d bytes, not %d", len(dst), len(data))
	}
	copy(dst, data)
	return nil
}

func (v value) hash() (hash common.Hash, err error) {
	err = v.fixedBytes(hash[:])
	return hash, err
}

// address reads an address; see ParseAddress.
func (v value) address() (address common.Address, err error) {
	if err = v.fixedBytes(address[:]); err != nil {
		return common.Address{}, err
	}
	return address, checkCase(v.text, address)
}
