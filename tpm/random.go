package tpm

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/sigild/sigild/daemon/wipe"
)

// MaxRandom is the largest number of bytes that one call of Random gives.
const MaxRandom = 1024

// Random returns exactly n bytes, 1 to MaxRandom, of the TPM's generator. They
// cross the bus encrypted, in a session salted to the storage root key. A TPM
// may answer with fewer bytes than asked for; the rest is then fetched too.
// On an error no bytes are returned.
func (t *TPM) Random(ctx context.Context, n int) ([]byte, error) {
	if n < 1 || n > MaxRandom {
		return nil, invalid("%d random bytes asked for; 1 to %d are possible", n, MaxRandom)
	}
	out := make([]byte, 0, n)
	err := t.do(ctx, func(l *link) error {
		for len(out) < n {
			if err := ctx.Err(); err != nil {
				return err
			}
			chunk, err := l.getRandom(n - len(out))
			if err != nil {
				return err
			}
			wipe.Do(func() { out = append(out, chunk...) })
			clear(chunk)
		}
		return nil
	})
	if err != nil {
		clear(out[:cap(out)])
		return nil, err
	}
	return out, nil
}

// getRandom asks once. No answer at all, or one longer than asked for, is not
// a TPM: the loop over short answers would never end, or end too long.
func (l *link) getRandom(n int) ([]byte, error) {
	const name = "TPM2_GetRandom"
	first, rest, err := l.exchange(secretCommand{
		name: name, code: tpm2.TPMCCGetRandom,
		session: l.oneShot(tpm2.AESEncryption(sessionKeyBits, tpm2.EncryptOut)),
		rest:    binary.BigEndian.AppendUint16(nil, uint16(n)),
	})
	if err != nil {
		return nil, err
	}
	if len(first) == 0 || len(first) > n || len(rest) != 0 {
		clear(first)
		return nil, l.conn.fail(fmt.Errorf("%s: %d bytes instead of %d", name, len(first), n))
	}
	return first, nil
}
