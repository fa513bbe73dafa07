package channel

import (
	"context"
	"crypto/hpke"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/sigild/sigild/daemon/wipe"
)

// Times of the daemon's end.
const (
	// KeyAge is how long a key pair is announced; then a new one is.
	KeyAge = time.Hour
	// MaxLifetime is the furthest that a block may expire ahead.
	MaxLifetime = 120 * time.Second
	// StatementAge is how old the time in a statement may be.
	StatementAge = 5 * time.Second
)

// ErrKeyUnknown is returned for a block that was sealed to a key which this
// daemon does not have (any more): fetch sigild_pinKey and seal again.
var ErrKeyUnknown = errors.New("the PIN was sealed to a key that this daemon does not have")

// Signer signs a SHA-256 digest by the installation's identity key, as ASN.1.
type Signer func(ctx context.Context, digest [32]byte) ([]byte, error)

// Announcement is a key as sigild_pinKey shows it.
type Announcement struct {
	Statement // for people: clients read Text, after they verified it
	Text      string
	Signature []byte
}

// pair is one key pair of the daemon.
type pair struct {
	id      ID
	private hpke.PrivateKey
	made    time.Time // with its monotonic reading

	// Both belong to Receiver.making.
	announcement *Announcement
	signed       time.Time // when it was asked for
}

func newPair(now time.Time) (*pair, error) {
	p := &pair{made: now}
	var err error
	wipe.Do(func() {
		kem, _, _ := suite()
		p.private, err = kem.GenerateKey()
	})
	if err != nil {
		return nil, err
	}
	p.id = keyID(p.private.PublicKey().Bytes())
	return p, nil
}

// announce has the pair's statement signed with the time, unless that was done a
// moment ago. When the token fails, an older statement is given.
func (p *pair) announce(ctx context.Context, installation ID, now time.Time, sign Signer) (*Announcement, error) {
	age := now.Round(0).Sub(p.signed.Round(0)) // by the wall clock, which it is about
	if p.announcement != nil && age >= 0 && age < StatementAge {
		return p.announcement, nil
	}
	a, err := p.state(ctx, installation, now, sign)
	if err != nil && p.announcement == nil {
		return nil, err
	}
	if err == nil {
		p.announcement = a
	}
	p.signed = now
	return p.announcement, nil
}

func (p *pair) state(ctx context.Context, installation ID, now time.Time, sign Signer) (*Announcement, error) {
	made := now.Add(-now.Sub(p.made)) // by the wall clock as it is now
	a := &Announcement{Statement: Statement{
		KeyID: "0x" + hex.EncodeToString(p.id[:]), PublicKey: "0x" + hex.EncodeToString(p.private.PublicKey().Bytes()), Suite: Suite,
		NotBefore: made.UTC().Format(time.RFC3339), NotAfter: made.Add(KeyAge + MaxLifetime).UTC().Format(time.RFC3339),
		Installation: "0x" + hex.EncodeToString(installation[:]), Time: now.UTC().Format(time.RFC3339),
	}}
	text, err := json.Marshal(a.Statement)
	if err != nil {
		return nil, err
	}
	a.Text = string(text)
	a.Signature, err = sign(ctx, statementDigest(a.Text))
	return a, err
}

// usable says whether blocks sealed to the pair are still taken.
func (p *pair) usable(now time.Time) bool { return now.Sub(p.made) < KeyAge+MaxLifetime }

func (p *pair) open(b *Block, installation ID, aad []byte) (pins *PINs, prover *Prover, err error) {
	wipe.Do(func() { pins, prover, err = p.decrypt(b, installation, aad) })
	return pins, prover, err
}

func (p *pair) decrypt(b *Block, installation ID, aad []byte) (*PINs, *Prover, error) {
	_, kdf, aead := suite()
	recipient, err := hpke.NewRecipient(b.Enc, p.private, kdf, aead, info(installation, p.id))
	if err != nil {
		return nil, nil, ErrSealed
	}
	plain, err := recipient.Open(aad, b.Ciphertext)
	defer clear(plain)
	if err != nil {
		return nil, nil, ErrSealed
	}
	var pins PINs
	if err := pins.decode(plain); err != nil {
		return nil, nil, err
	}
	key, err := recipient.Export(answerLabel, 32)
	defer clear(key)
	if err != nil {
		pins.Wipe()
		return nil, nil, err
	}
	return &pins, newProver(key, aad), nil
}
