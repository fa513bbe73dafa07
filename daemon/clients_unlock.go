package daemon

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/sigild/sigild/daemon/eth"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/ipc"
)

// unlockFirst is the error for an account that is not unlocked, with the
// command that unlocks it for just this payload. Its message has no braces:
// viem counts them to find the end of an answer.
func (d *Daemon) unlockFirst(ctx context.Context, peer wallet.Peer, address [20]byte, p *payload, err error) error {
	reason, why := "unlockRequired", "the account is not unlocked for this user"
	if errors.Is(err, wallet.ErrRelock) {
		reason, why = "relock", "the token lost the unlocked keys"
	}
	_, account, lookup := d.wallets.Find(ctx, peer, address)
	if lookup != nil {
		return lookup
	}
	return fmt.Errorf("%w: %v", &ipc.Error{Code: ipc.CodeUnauthorized, Reason: reason, Charged: new(bool),
		Message: why + ": sigilctl " + unlockCommand(address, account, p.facts)}, err)
}

// unlockCommand gives the arguments of sigilctl whose terms allow what facts
// describe, once, and nothing else.
func unlockCommand(address [20]byte, account uint32, f eth.Facts) string {
	var b strings.Builder
	fmt.Fprintf(&b, "unlock %s --bind uid --ttl 15m --signatures 1 --operation %s", eth.Checksum(address), f.Operation)
	if account != 0 {
		fmt.Fprintf(&b, " --account %d", account)
	}
	if f.Operation == eth.OperationMessage || f.Operation == eth.OperationCliqueHeader {
		return b.String()
	}
	fmt.Fprintf(&b, " --chain %s", orAny(f.Chain))
	if f.ContractCreation {
		b.WriteString(" --contract-creation")
	} else {
		fmt.Fprintf(&b, " --recipient %s", orAny(f.Recipient))
	}
	switch {
	case f.ContractCreation || f.DataLength == 0 || f.Operation == eth.OperationValidatorData:
	case len(f.Selector) == 4:
		fmt.Fprintf(&b, " --selector 0x%s", hex.EncodeToString(f.Selector))
	default:
		fmt.Fprintf(&b, " --selector %s", ipc.Any)
	}
	facts := policyFacts(f)
	facts.Sender = hexutil.Encode(address[:])
	moved := wei(facts.Moved())
	fmt.Fprintf(&b, " --max-value %s --max-cost %s --total-value %s", moved, wei(f.MaxCost), moved)
	return b.String()
}

func orAny(text string) string {
	if text == "" {
		return ipc.Any
	}
	return text
}

// wei is an amount as sigilctl reads it; what is unknown needs "any".
func wei(amount *big.Int) string {
	if amount == nil {
		return ipc.Any
	}
	return amount.String() + "wei"
}
