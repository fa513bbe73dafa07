package main

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
)

// transaction is an unsigned transaction, for showing it.
type transaction struct{ object }

// describe says what signer will sign. What cannot be shown is not signed.
func describe(raw json.RawMessage, signer string) (string, error) {
	o, err := parseObject("transaction", raw)
	if err != nil {
		return "", err
	}
	t := transaction{*o}
	var s sheet
	t.addParties(&s, signer)
	t.addMoney(&s)
	t.addCall(&s)
	if t.err != nil {
		return "", t.err
	}
	return s.String(), nil
}

func (t *transaction) addParties(s *sheet, signer string) {
	if chain := t.number("chainId"); chain != nil {
		s.add("chain", chainText(chain))
	}
	s.add("signer", signer)
	s.add("from", t.address("from"))
	to := t.address("to")
	if to == "" {
		to = "nobody: it creates a contract"
	}
	s.add("to", to)
}

func (t *transaction) addMoney(s *sheet) {
	value := t.number("value")
	if value == nil {
		value = new(big.Int)
	}
	s.add("value", amount(value))
	if nonce := t.number("nonce"); nonce != nil {
		s.add("nonce", nonce.String())
	}
	gas := t.number("gas")
	if gas == nil {
		gas = t.number("gasLimit")
	}
	price := t.number("maxFeePerGas")
	if price == nil {
		price = t.number("gasPrice")
	}
	if gas == nil || price == nil {
		return
	}
	fee := new(big.Int).Mul(gas, price)
	s.addf("fees", "at most %s: %v gas, %s", amount(fee), gas, t.priceText(price))
	fee.Add(fee, t.addBlobs(s))
	s.add("total", "at most "+amount(fee.Add(fee, value)))
}

func (t *transaction) priceText(price *big.Int) string {
	text := decimal(price, gweiDigits) + " gwei each"
	if tip := t.number("maxPriorityFeePerGas"); tip != nil {
		text += ", of which " + decimal(tip, gweiDigits) + " gwei tip"
	}
	return text
}

// gasPerBlob is the blob gas that each blob costs (EIP-4844, GAS_PER_BLOB).
const gasPerBlob = 1 << 17

// addBlobs returns the most that the blobs cost, 0 without any.
func (t *transaction) addBlobs(s *sheet) *big.Int {
	blobs := t.count("blobVersionedHashes")
	if blobs == 0 {
		return new(big.Int)
	}
	fee := big.NewInt(int64(blobs) * gasPerBlob)
	if price := t.number("maxFeePerBlobGas"); price != nil {
		fee.Mul(fee, price)
	}
	s.addf("blobs", "%d, at most %s", blobs, amount(fee))
	return fee
}

// maxData is how much call data people are shown, in bytes: a selector and
// seven words.
const maxData = 4 + 7*32

func (t *transaction) addCall(s *sheet) {
	name := "data"
	if !t.has(name) {
		name = "input"
	}
	if data := t.bytes(name); len(data) > maxData {
		s.addf("data", "%d bytes: 0x%x and more", len(data), data[:maxData])
	} else if len(data) > 0 {
		s.addf("data", "%d bytes: 0x%x", len(data), data)
	}
	if n := t.count("authorizationList"); n > 0 {
		s.addf("delegations", "%d: from now on these accounts run a contract's code", n)
	}
}

func chainText(id *big.Int) string {
	names := map[string]string{
		"1": "Ethereum", "10": "OP Mainnet", "56": "BNB Smart Chain", "100": "Gnosis", "137": "Polygon",
		"8453": "Base", "42161": "Arbitrum One", "43114": "Avalanche C-Chain", "59144": "Linea",
		"11155111": "Sepolia testnet", "560048": "Hoodi testnet",
	}
	if name := names[id.String()]; name != "" {
		return fmt.Sprintf("%v (%s)", id, name)
	}
	return id.String()
}

const (
	etherDigits = 18 // 1 ether = 10^18 wei
	gweiDigits  = 9  // 1 gwei = 10^9 wei
)

func amount(wei *big.Int) string {
	return fmt.Sprintf("%s ether (%v wei)", decimal(wei, etherDigits), wei)
}

// decimal is n / 10^digits, exactly.
func decimal(n *big.Int, digits int) string {
	text := n.String()
	if len(text) <= digits {
		text = strings.Repeat("0", digits+1-len(text)) + text
	}
	whole, part := text[:len(text)-digits], strings.TrimRight(text[len(text)-digits:], "0")
	return joined(".", whole, part)
}
