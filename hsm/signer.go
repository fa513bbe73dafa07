package hsm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/ThalesGroup/crypto11"
)

// signer owns the crypto11 context, which makes a crypto.Signer of each P-256
// key pair. crypto11 puts sessions back into its pool even when they died, so
// after a session error the whole context is replaced.
type signer struct {
	cfg   Config
	turns chan *stopwatch // whoever has one may sign; it runs meanwhile
	all   []*stopwatch

	mu      sync.Mutex
	context *crypto11.Context
	retired sync.WaitGroup // contexts that were replaced and are closing
}

// openSigner initialises the module. The log-in is left to Login, so that the
// PIN never becomes a string.
func openSigner(cfg Config) (*signer, error) {
	c, err := configure(cfg)
	if err != nil {
		return nil, err
	}
	s := &signer{cfg: cfg, context: c, turns: make(chan *stopwatch, signerSessions-1)}
	for range cap(s.turns) {
		turn := new(stopwatch)
		s.all = append(s.all, turn)
		s.turns <- turn
	}
	return s, nil
}

func configure(cfg Config) (*crypto11.Context, error) {
	return crypto11.Configure(&crypto11.Config{
		Path:              cfg.Module,
		TokenLabel:        cfg.Label,
		TokenSerial:       cfg.Serial,
		MaxSessions:       signerSessions,
		PoolWaitTimeout:   cfg.CallTimeout,
		LoginNotSupported: true,
	})
}

// current returns the context in use.
func (s *signer) current() *crypto11.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.context
}

// replace opens a new context in place of old, unless that was done already.
// The old one is closed aside, because its Close waits for its sessions; the
// module stays initialised as long as one context is open.
func (s *signer) replace(old *crypto11.Context) (*crypto11.Context, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.context != old {
		return s.context, nil
	}
	fresh, err := configure(s.cfg)
	if err != nil {
		return nil, fromModule("open the signer's sessions", err)
	}
	s.context = fresh
	s.retired.Go(func() { _ = old.Close() })
	return fresh, nil
}

// drain takes every turn, so that nobody signs any more, as far as they come back
// in time.
func (s *signer) drain(ctx context.Context) (out []*stopwatch) {
	for range cap(s.turns) {
		select {
		case turn := <-s.turns:
			out = append(out, turn)
		case <-ctx.Done():
			return out
		}
	}
	return out
}

// hung counts the signatures that are in the module for longer than the call timeout.
func (s *signer) hung() (n int, since time.Time) { return hungSince(s.all, s.cfg.CallTimeout) }

// take waits for a turn.
func (s *signer) take(ctx context.Context, closing <-chan struct{}) (*stopwatch, error) {
	select {
	case turn := <-s.turns:
		return turn, nil
	default:
	}
	if n, _ := s.hung(); n == len(s.all) {
		return nil, fmt.Errorf("%w: all %d of the P-256 keys", ErrHung, len(s.all))
	}
	select {
	case turn := <-s.turns:
		return turn, nil
	case <-closing:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, fmt.Errorf("no free session: %w", ctx.Err())
	}
}

// close closes the last context, which finalises the module once all others are
// closed.
func (s *signer) close() {
	s.retired.Wait()
	_ = s.current().Close()
}

// keySigner is a crypto.Signer of one long-lived P-256 key.
type keySigner struct {
	keys   *Keys
	id     []byte
	public *ecdsa.PublicKey

	mu      sync.Mutex
	context *crypto11.Context // the one that key belongs to
	key     crypto.Signer
}

// Public returns the *ecdsa.PublicKey.
func (k *keySigner) Public() crypto.PublicKey { return k.public }

// Sign signs a SHA-256 digest (32 bytes; opts must say crypto.SHA256) with
// ECDSA and returns the signature in ASN.1 form. The token supplies the nonce;
// the reader is not used. Every signature is verified against the public key
// before it is returned. It takes at most the token's call timeout, and is safe
// for concurrent use.
func (k *keySigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts == nil || opts.HashFunc() != crypto.SHA256 || len(digest) != sha256.Size {
		return nil, errors.New("hsm: a P-256 key signs SHA-256 digests of 32 bytes only")
	}
	own := append([]byte(nil), digest...)
	ctx, cancel := k.keys.token.bound(context.Background())
	defer cancel()
	if err := k.keys.usable(); err != nil {
		return nil, err
	}
	signature, err := k.attempt(ctx, own)
	if err != nil {
		return nil, err
	}
	if !ecdsa.VerifyASN1(k.public, own, signature) {
		return nil, fmt.Errorf("hsm: with a P-256 key: %w", ErrWrongSignature)
	}
	return signature, nil
}

// attempt waits for a turn and signs on its own goroutine, which keeps the turn
// until the module comes back.
func (k *keySigner) attempt(ctx context.Context, digest []byte) ([]byte, error) {
	s := k.keys.token.signer
	turn, err := s.take(ctx, k.keys.token.closing)
	if err != nil {
		return nil, fmt.Errorf("hsm: sign: %w", err)
	}
	turn.start()
	return await(ctx, "sign", func() ([]byte, error) {
		defer func() {
			turn.stop()
			s.turns <- turn
		}()
		signature, err := k.signTwice(s, digest)
		k.keys.token.observe(err)
		return signature, err
	}, nil)
}

// signTwice signs, and once more on new sessions when the old ones are dead.
func (k *keySigner) signTwice(s *signer, digest []byte) ([]byte, error) {
	c := s.current()
	signature, err := k.signWith(c, digest)
	if class := classOf(err); err == nil || class == GiveUp || class == Reinitialise {
		return signature, err
	}
	c, failed := s.replace(c)
	if failed != nil {
		return nil, errors.Join(err, failed)
	}
	return k.signWith(c, digest)
}

func (k *keySigner) signWith(c *crypto11.Context, digest []byte) ([]byte, error) {
	key, err := k.find(c)
	if err != nil {
		return nil, err
	}
	signature, err := key.Sign(nil, digest, crypto.SHA256)
	return signature, fromModule("C_Sign", err)
}

// find returns the key as this context knows it. crypto11 answers nil without
// an error when there is no such key.
func (k *keySigner) find(c *crypto11.Context) (crypto.Signer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.context == c {
		return k.key, nil
	}
	key, err := c.FindKeyPair(k.id, nil)
	if err != nil {
		return nil, fromModule("C_FindObjects", err)
	}
	if key == nil {
		return nil, fmt.Errorf("%w: no key pair has the id %x", ErrKeyMissing, k.id)
	}
	k.context, k.key = c, key
	return key, nil
}
