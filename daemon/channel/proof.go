package channel

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"

	"github.com/sigild/sigild/daemon/wipe"
)

// ErrProof is returned for an answer whose proof is missing or wrong: it did
// not come from the daemon that the PIN was sealed for, or not for this
// request. Nothing of the answer may be used.
var ErrProof = errors.New("the answer's proof is missing or wrong")

// Kind says what an answer is.
type Kind byte

const (
	// Result is the result member of an answer, an object.
	Result Kind = 1
	// Failure is the data member of an answer's error object.
	Failure Kind = 2
)

// proofMember is the member of an answer that holds the proof.
const proofMember = "proof"

// Prover makes and checks the proofs of one block's answers. It is secret;
// wipe it.
type Prover struct {
	key     [32]byte
	request [32]byte // SHA-256 of the block's associated data
}

func newProver(key, aad []byte) *Prover {
	return &Prover{key: [32]byte(key), request: sha256.Sum256(aad)}
}

// Wipe overwrites the key.
func (p *Prover) Wipe() { clear(p.key[:]) }

// Prove adds proof, as the last member, to an answer: an object without one.
func (p *Prover) Prove(kind Kind, answer []byte) (json.RawMessage, error) {
	members, proof, err := p.compute(kind, answer)
	if err != nil {
		return nil, err
	}
	out := bytes.TrimRight(answer, " \t\r\n")
	out = append(make([]byte, 0, len(out)+80), out[:len(out)-1]...)
	if len(members) > 0 {
		out = append(out, ',')
	}
	out = append(append(append(out, '"'), proofMember...), `":"0x`...)
	return append(hex.AppendEncode(out, proof[:]), `"}`...), nil
}

// Check reports ErrProof unless the answer carries its right proof.
func (p *Prover) Check(kind Kind, answer []byte) error {
	var given struct {
		Proof string `json:"proof"`
	}
	if json.Unmarshal(answer, &given) != nil {
		return ErrProof
	}
	members, err := membersOf(answer)
	if err != nil {
		return ErrProof
	}
	delete(members, proofMember)
	proof, err := p.mac(kind, members)
	if err != nil {
		return ErrProof
	}
	got, err := hex.DecodeString(trimHex(given.Proof))
	if err != nil || !hmac.Equal(got, proof[:]) {
		return ErrProof
	}
	return nil
}

func trimHex(s string) string {
	if len(s) > 2 && s[:2] == "0x" {
		return s[2:]
	}
	return ""
}

func (p *Prover) compute(kind Kind, answer []byte) (map[string]json.RawMessage, [32]byte, error) {
	members, err := membersOf(answer)
	if _, there := members[proofMember]; err != nil || there {
		return nil, [32]byte{}, ErrCanonical
	}
	proof, err := p.mac(kind, members)
	return members, proof, err
}

func membersOf(answer []byte) (members map[string]json.RawMessage, err error) {
	if err := json.Unmarshal(answer, &members); err != nil || members == nil {
		return nil, ErrCanonical
	}
	return members, nil
}

func (p *Prover) mac(kind Kind, members map[string]json.RawMessage) (proof [32]byte, err error) {
	digest, err := digestOf(members)
	if err != nil {
		return proof, err
	}
	wipe.Do(func() {
		mac := hmac.New(sha256.New, p.key[:])
		mac.Write([]byte{byte(kind)})
		mac.Write(p.request[:])
		mac.Write(digest[:])
		mac.Sum(proof[:0])
	})
	return proof, nil
}
