package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/sigild/sigild/daemon/seal"
)

// BenchmarkGuess is what root of this very host can do, who goes round the
// daemon and has its database, its token and its TPM: each guess stretches a
// PIN and asks both devices. The shares say which part bounds it.
func BenchmarkGuess(b *testing.B) {
	h, c := serving(b, withConfig(map[string]string{"pin": ""})) // the default Argon2
	w := create(b, c, "1")
	stop(b, h)
	v := openVault(b, h)
	p := v.record(b, w.WalletID)
	ask := func(call func(context.Context, []byte, *[32]byte) error) func(context.Context) error {
		return func(ctx context.Context) error { return call(ctx, make([]byte, 32), new([32]byte)) }
	}
	for _, part := range []struct {
		name string
		call func(context.Context) error
	}{
		{"whole", func(context.Context) error {
			if _, err := unseal(b, p, wrongPIN, v.factors); !errors.Is(err, seal.ErrOpen) {
				return fmt.Errorf("a wrong PIN: %w", err)
			}
			return nil
		}},
		{"token", ask(v.factors.Pepper)},
		{"TPM", ask(v.factors.Host)},
	} {
		for _, workers := range []int{1, 2, 8} {
			b.Run(fmt.Sprintf("%s/at a time=%d", part.name, workers), func(b *testing.B) {
				share(b, workers, func(ctx context.Context, _ int) error { return part.call(ctx) })
				b.ReportMetric(b.Elapsed().Hours()/float64(b.N)*1e6, "hours/million")
			})
		}
	}
	v.close(b)
}
