package hsm

import (
	"context"
	"fmt"
)

// maxRandom bounds one request for random bytes.
const maxRandom = 4096

// Random returns n bytes, 1 to 4096, from the token's generator. The slice is
// the caller's to wipe; no other copy is left.
func (t *Token) Random(ctx context.Context, n int) ([]byte, error) {
	if n < 1 || n > maxRandom {
		return nil, fmt.Errorf("hsm: %d random bytes: it must be 1 to %d", n, maxRandom)
	}
	return do(ctx, t.signing, "get random bytes", work[[]byte]{
		run: func(s *session) ([]byte, error) {
			out := make([]byte, n)
			if err := t.native.random(s.handle, out); err != nil {
				clear(out)
				return nil, err
			}
			return out, nil
		},
		discard: func(_ *session, b []byte) { clear(b) },
	})
}

// SeedRandom mixes b into the token's generator, where the token takes it.
// Many do not: the error is then ErrUnsupported. b stays the caller's to wipe.
func (t *Token) SeedRandom(ctx context.Context, b []byte) error {
	if len(b) == 0 || len(b) > maxRandom {
		return fmt.Errorf("hsm: a seed of %d bytes: it must be 1 to %d", len(b), maxRandom)
	}
	secret := newSecret(b)
	_, err := do(ctx, t.signing, "seed the token's generator", work[struct{}]{
		run:     func(s *session) (struct{}, error) { return struct{}{}, t.native.seed(s.handle, secret) },
		release: secret.free,
	})
	return err
}
