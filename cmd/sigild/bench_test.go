package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/ipc"
)

// rates are signatures per second by the name of the measurement.
type rates map[string]float64

// BenchmarkSignatures compares, in one run, what the token does when it is
// called directly with what relays get through the socket, where each signature
// comes with a PIN check.
func BenchmarkSignatures(b *testing.B) {
	measured := rates{}
	benchDirect(b, measured)
	for _, cost := range []struct {
		name, config string
		kdf          seal.Argon2
	}{
		{"argon2=default", "", seal.DefaultArgon2()},
		{"argon2=least", cheapPIN, seal.Argon2{Time: 1, Memory: 8192, Threads: 1}},
	} {
		h, _ := serving(b, withConfig(map[string]string{"pin": cost.config}))
		stretching := stretchingTime(b, cost.kdf)
		for _, clients := range []int{1, 8} {
			benchSocket(b, h, cost.name, clients, stretching, measured)
		}
		if cost.config == "" { // an unlock checks no PIN
			for _, clients := range []int{1, 8} {
				benchUnlocked(b, h, clients, measured)
			}
		}
		stop(b, h)
	}
}

// measure shares b.N signatures among workers and reports their rate.
func measure(b *testing.B, workers int, name string, all rates, call func(ctx context.Context, worker int) error) {
	share(b, workers, call)
	all[name] = float64(b.N) / b.Elapsed().Seconds()
	b.ReportMetric(all[name], "sigs/s")
}

// share has workers make b.N calls, and times them.
func share(b *testing.B, workers int, call func(ctx context.Context, worker int) error) {
	ctx := testContext(b)
	b.ResetTimer()
	group, ctx := errgroup.WithContext(ctx)
	for worker := range workers {
		group.Go(func() error {
			for i := worker; i < b.N; i += workers {
				if err := call(ctx, worker); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
}

// benchDirect signs with the token in this process: no socket, no PIN, no
// database.
func benchDirect(b *testing.B, all rates) {
	h := newHost(b)
	provision(b, h)
	v := openVault(b, h)
	for _, callers := range []int{1, 4, 8} {
		roots := make([]hsm.Object, callers)
		for i := range roots {
			var err error
			if roots[i], _, err = v.keys.GenerateRoot(testContext(b)); err != nil {
				b.Fatal(err)
			}
		}
		name := fmt.Sprintf("direct/callers=%d", callers)
		b.Run(name, func(b *testing.B) {
			measure(b, callers, name, all, func(ctx context.Context, worker int) error {
				var digest [32]byte
				rand.Read(digest[:])
				_, err := v.keys.SignECDSA(ctx, roots[worker], digest)
				return err
			})
		})
		if err := v.keys.Destroy(testContext(b), roots...); err != nil {
			b.Fatal(err)
		}
	}
	v.close(b)
}

// benchSocket has each client sign with a wallet of its own, because checks of
// one wallet run one after the other. It reports the share of the direct rate,
// the processor time that sigild takes for one signature, and how much of that
// is the PIN's stretching. Where rate × processor time comes near the number of
// processors, they are the bound; else it is waiting: for the TPM, which makes
// one HMAC at a time, and for the disk.
func benchSocket(b *testing.B, h *daemontest.Host, cost string, clients int, stretching time.Duration, all rates) {
	connections, wallets := make([]*ipc.Client, clients), make([]ipc.WalletInfo, clients)
	for i := range connections {
		connections[i] = dial(b, h.Socket)
		wallets[i] = create(b, connections[i], fmt.Sprintf("%d of %d", i, clients))
	}
	name := fmt.Sprintf("socket/%s/clients=%d", cost, clients)
	b.Run(name, func(b *testing.B) {
		before := processorTime(b, h)
		measure(b, clients, name, all, func(ctx context.Context, worker int) error {
			_, err := connections[worker].SignMessage(ctx, ipc.SignMessageParams{
				WalletID: wallets[worker].WalletID, Message: ipc.Hex("hello"), PIN: ipc.Secret(rightPIN)})
			return err
		})
		each := (processorTime(b, h) - before) / time.Duration(b.N)
		b.ReportMetric(each.Seconds()*1000, "cpu-ms/sig")
		b.ReportMetric(stretching.Seconds()*1000, "argon2-ms/sig")
		b.ReportMetric(each.Seconds()*all[name], "processors")
		if direct := all[fmt.Sprintf("direct/callers=%d", clients)]; direct > 0 {
			b.ReportMetric(all[name]/direct, "of-direct")
		}
	})
}

// benchUnlocked is benchSocket by unlocks: no PIN is checked, and the keys stay
// in the token.
func benchUnlocked(b *testing.B, h *daemontest.Host, clients int, all rates) {
	connections, wallets := make([]*ipc.Client, clients), make([]ipc.WalletInfo, clients)
	for i := range connections {
		connections[i] = dial(b, h.Socket)
		wallets[i] = create(b, connections[i], fmt.Sprintf("unlocked %d of %d", i, clients))
		_, err := connections[i].Unlock(testContext(b), ipc.UnlockParams{WalletID: wallets[i].WalletID, PIN: ipc.Secret(rightPIN),
			Terms: ipc.Terms{Signatures: 1_000_000, Seconds: 3600, TotalValue: ipc.Any, Policy: ipc.Policy{Operations: []string{"message"}}}})
		if err != nil {
			b.Fatal(err)
		}
	}
	for _, by := range []string{"id", "address"} {
		name := fmt.Sprintf("socket/unlocked/by=%s/clients=%d", by, clients)
		b.Run(name, func(b *testing.B) {
			before := processorTime(b, h)
			measure(b, clients, name, all, func(ctx context.Context, worker int) error {
				p := ipc.SignMessageParams{Message: ipc.Hex("hello")}
				if by == "id" {
					p.WalletID = wallets[worker].WalletID
				} else {
					p.Address = wallets[worker].Accounts[0].Address
				}
				_, err := connections[worker].SignMessage(ctx, p)
				return err
			})
			each := (processorTime(b, h) - before) / time.Duration(b.N)
			b.ReportMetric(each.Seconds()*1000, "cpu-ms/sig")
			if direct := all[fmt.Sprintf("direct/callers=%d", clients)]; direct > 0 {
				b.ReportMetric(all[name]/direct, "of-direct")
			}
			if byID := all[fmt.Sprintf("socket/unlocked/by=id/clients=%d", clients)]; by != "id" {
				b.ReportMetric(all[name]/byID, "of-by-id")
			}
		})
	}
}

// stretchingTime is what one PIN's stretching takes of a processor.
func stretchingTime(b *testing.B, kdf seal.Argon2) time.Duration {
	b.Helper()
	kdf.Salt = seal.NewSalt()
	const times = 16
	began := time.Now()
	for range times {
		stretched, err := seal.Stretch([]byte(rightPIN), kdf)
		clear(stretched)
		if err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(began) / times
}

// processorTime is what sigild took of all processors so far: fields utime and
// stime of proc(5), in ticks of 10 ms.
func processorTime(b *testing.B, h *daemontest.Host) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.PID()))
	if err != nil {
		b.Fatal(err)
	}
	var user, system time.Duration
	rest := string(stat[bytes.LastIndexByte(stat, ')')+1:])
	fields := strings.Fields(rest)
	if _, err := fmt.Sscan(fields[11], &user); err != nil {
		b.Fatal(err)
	}
	if _, err := fmt.Sscan(fields[12], &system); err != nil {
		b.Fatal(err)
	}
	return (user + system) * 10 * time.Millisecond
}
