package channel

import (
	"crypto/hpke"
	"fmt"
	"time"

	"github.com/sigild/sigild/daemon/wipe"
)

// Lifetime is how far ahead a client lets a block expire. The daemon takes up
// to MaxLifetime.
const Lifetime = 60 * time.Second

// Key is the daemon's verified public key. It is safe for concurrent use.
type Key struct {
	ID                  ID
	Installation        ID
	NotBefore, NotAfter time.Time
	public              hpke.PublicKey
	time                time.Time // the daemon's clock, signed; zero: not said
	verified            time.Time // the client's then
}

// Clock is the daemon's clock at now of the client, as far as the statement tells:
// never ahead of it, so that no relay can have a block live for longer.
func (k *Key) Clock(now time.Time) time.Time {
	if k.time.IsZero() {
		return now
	}
	return k.time.Add(now.Sub(k.verified))
}

// Seal closes the PINs for one request. The prover checks the answer; the
// caller wipes it.
func (k *Key) Seal(r Request, pins *PINs, expires time.Time) (*Block, *Prover, error) {
	plain, err := pins.encode()
	if err != nil {
		return nil, nil, err
	}
	defer clear(plain)
	if len(r.Method) > MaxMethod {
		return nil, nil, fmt.Errorf("the method's name is longer than %d bytes", MaxMethod)
	}
	b := &Block{KeyID: k.ID[:], Expires: expires.Unix()}
	aad := r.aad(k.ID, b.Expires)
	var p *Prover
	wipe.Do(func() { p, err = k.seal(b, plain, aad) })
	return b, p, err
}

func (k *Key) seal(b *Block, plain, aad []byte) (*Prover, error) {
	_, kdf, aead := suite()
	enc, sender, err := hpke.NewSender(k.public, kdf, aead, info(k.Installation, k.ID))
	if err != nil {
		return nil, err
	}
	b.Enc = enc
	if b.Ciphertext, err = sender.Seal(aad, plain); err != nil {
		return nil, err
	}
	key, err := sender.Export(answerLabel, 32)
	defer clear(key)
	if err != nil {
		return nil, err
	}
	return newProver(key, aad), nil
}
