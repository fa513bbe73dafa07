package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/daemon/entropy/kmstest"
	"github.com/sigild/sigild/hsm/hsmtest"
	"github.com/sigild/sigild/ipc"
)

// quickKMS keeps a test of a KMS that does not answer short.
func quickKMS() func(*daemontest.Options) {
	return withConfig(map[string]string{"kms": fmt.Sprintf("timeout = %q\nattempts = 2", kmsTimeout())})
}

// refusedCreation checks that one source of randomness stops a creation and
// that nothing of it stays.
func refusedCreation(t *testing.T, c *ipc.Client, source, why string) {
	t.Helper()
	before := countWallets(t, c)
	_, err := c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: "refused", Owner: "alice", PIN: ipc.Secret(rightPIN)})
	e := wantReason(t, err, "entropyFailed")
	if e.Field != source || !strings.Contains(e.Message, source) || !strings.Contains(e.Message, why) {
		t.Errorf("%+v, want it to name %s and %q", e, source, why)
	}
	status, err := c.Status(testContext(t))
	if after := countWallets(t, c); err != nil || after != before || status.Wallets != before {
		t.Errorf("%d wallets before, %d after, %+v, %v", before, after, status, err)
	}
}

func TestBrokenKMSStopsTheCreation(t *testing.T) {
	h, c := serving(t, quickKMS())
	create(t, c, "0") // so that there is an answer to repeat
	for _, fault := range []struct {
		name, why string
		script    func(*kmstest.Server)
	}{
		{"short", "short", func(k *kmstest.Server) { k.Short(31, kmstest.Always) }},
		{"empty", "", func(k *kmstest.Server) { k.Short(0, kmstest.Always) }},
		{"constant", "constant", func(k *kmstest.Server) { k.Constant(0xa5, kmstest.Always) }},
		{"zero", "constant", func(k *kmstest.Server) { k.Constant(0, kmstest.Always) }},
		{"repeated", "repeated", func(k *kmstest.Server) { k.Repeat(kmstest.Always) }},
		{"denied", "failed", func(k *kmstest.Server) { k.Denied(kmstest.Always) }},
		{"throttled for ever", "failed", func(k *kmstest.Server) { k.Throttle(kmstest.Always) }},
		{"a proxy's page", "failed", func(k *kmstest.Server) { k.HTML(200, kmstest.Always) }},
		{"hanging", "timeout", func(k *kmstest.Server) { k.Hang(kmstest.Always) }},
	} {
		t.Run(fault.name, func(t *testing.T) {
			fault.script(h.KMS)
			refusedCreation(t, c, "kms", fault.why)
			h.KMS.Reset()
			create(t, c, fault.name)
		})
	}
}

func TestThrottledKMSIsAskedAgain(t *testing.T) {
	h, c := serving(t)
	before := h.KMS.Stats().Requests
	h.KMS.Throttle(2)
	create(t, c, "1")
	if asked := h.KMS.Stats().Requests - before; asked != 3 {
		t.Errorf("KMS was asked %d times, want 3", asked)
	}
}

// TestRepeatedKMSAnswerIsFoundAfterARestart needs the last answer's digest to be
// on disk.
func TestRepeatedKMSAnswerIsFoundAfterARestart(t *testing.T) {
	h, c := serving(t)
	create(t, c, "1")
	for _, end := range []func(testing.TB, *daemontest.Host){stop, kill} {
		end(t, h)
		start(t, h)
		h.KMS.Repeat(1)
		refusedCreation(t, c, "kms", "repeated")
	}
	create(t, c, "2")
}

func TestRefusedRequestCanBeRepeated(t *testing.T) {
	h, c := serving(t)
	h.KMS.Short(8, 1)
	refusedCreation(t, c, "kms", "short")
	create(t, c, "refused") // the same request id
}

func TestKMSDownAffectsCreationOnly(t *testing.T) {
	h, c := serving(t, quickKMS())
	w := create(t, c, "1")
	h.KMS.Fail("KMSInternalException", 500, kmstest.Always)
	refusedCreation(t, c, "kms", "failed")
	signAll(t, c, w, 0)
	stop(t, h)
	start(t, h)
	signAll(t, c, w, 1)
}

func TestDroppedSourceIsSaid(t *testing.T) {
	h, c := serving(t, withConfig(map[string]string{"entropy": `drop = ["kms"]`}), func(o *daemontest.Options) { o.WithoutKMS = true })
	before := h.KMS.Stats().Requests
	w := create(t, c, "1")
	status, err := c.Status(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(status.Entropy.Dropped, []string{"kms"}) || !slices.Equal(status.Entropy.Sources, []string{"token", "tpm"}) {
		t.Errorf("status says %+v", status.Entropy)
	}
	mustContain(t, strings.Join(status.Notes, "\n"), "without randomness from kms")
	if !slices.Equal(w.Dropped, []string{"kms"}) || len(w.Provenance) != 2 || h.KMS.Stats().Requests != before {
		t.Errorf("wallet says %+v of its randomness; KMS was asked %d times", w, h.KMS.Stats().Requests-before)
	}
	stop(t, h)
	h.Config["entropy"], h.WithoutKMS = "", false
	if err := h.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	start(t, h)
	if later := create(t, c, "2"); len(later.Dropped) != 0 || len(later.Provenance) != 3 {
		t.Errorf("a wallet of all sources: %+v", later)
	}
	r, err := c.GetWallet(testContext(t), ipc.GetWalletParams{WalletID: w.WalletID})
	if err != nil || !slices.Equal(r.Dropped, []string{"kms"}) {
		t.Errorf("the first wallet: %+v, %v", r, err)
	}
}

// faultyToken puts a module in front of SoftHSM that fails on command.
func faultyToken(t *testing.T) (*hsmtest.Faults, func(*daemontest.Options)) {
	t.Helper()
	instance := hsmtest.New(t, hsmtest.WithFaults())
	return instance.Faults, func(o *daemontest.Options) {
		o.Module = instance.Module
		for _, line := range instance.Env() {
			if !strings.HasPrefix(line, "SOFTHSM2_CONF=") {
				o.Env = append(o.Env, line)
			}
		}
	}
}

// TestBrokenTokenGeneratorStopsTheCreation has C_GenerateRandom say that it went
// well and leave the buffer alone, and then fail.
func TestBrokenTokenGeneratorStopsTheCreation(t *testing.T) {
	faults, module := faultyToken(t)
	_, c := serving(t, module)
	const ok, deviceError = 0, 0x30
	for why, code := range map[string]uint{"constant": ok, "failed": deviceError} {
		faults.Fail("C_GenerateRandom", code)
		refusedCreation(t, c, "token", why)
		faults.Clear("C_GenerateRandom")
		create(t, c, why)
	}
}

// TestTokenThatTakesNoSeedMakesWallets: tokens refuse C_SeedRandom in many ways. The
// status says so; a fault of the device is one here as anywhere.
func TestTokenThatTakesNoSeedMakesWallets(t *testing.T) {
	faults, module := faultyToken(t)
	_, c := serving(t, module)
	unfed := func() bool {
		t.Helper()
		s, err := c.Status(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(s.Notes, func(n string) bool { return strings.Contains(n, "C_SeedRandom") })
	}
	for _, code := range []uint{pkcs11.CKR_RANDOM_SEED_NOT_SUPPORTED, pkcs11.CKR_FUNCTION_NOT_SUPPORTED,
		pkcs11.CKR_ACTION_PROHIBITED, pkcs11.CKR_FUNCTION_REJECTED, pkcs11.CKR_ARGUMENTS_BAD} {
		faults.Fail("C_SeedRandom", code)
		create(t, c, fmt.Sprint("refused by ", code))
		if !unfed() {
			t.Errorf("%#x: the status does not say that the token is not fed", code)
		}
	}
	faults.Fail("C_SeedRandom", pkcs11.CKR_DEVICE_ERROR)
	_, err := c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: "device", Owner: "alice", PIN: ipc.Secret(rightPIN)})
	wantReason(t, err, "tokenUnavailable")
	faults.Clear("C_SeedRandom")
	await(t, "the token", func() bool {
		_, err := c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: "device", Owner: "alice", PIN: ipc.Secret(rightPIN)})
		return err == nil
	})
	if unfed() {
		t.Error("the status says that the token is not fed, which it is")
	}
}

// TestDeadTPMStopsTheCreation ends the TPM under the daemon.
func TestDeadTPMStopsTheCreation(t *testing.T) {
	h, c := serving(t)
	w := create(t, c, "1")
	h.TPM.Kill()
	refusedCreation(t, c, "tpm", "failed")
	_, err := tryPIN(t, c, w.WalletID, rightPIN)
	wantReason(t, err, "tpmUnavailable")
	if left := attemptsLeft(t, c, w.WalletID); left != 10 {
		t.Errorf("a TPM that does not answer cost an attempt: %d left", left)
	}
}

func TestProvenanceHoldsNoRandomBytes(t *testing.T) {
	_, c := serving(t)
	w := create(t, c, "1")
	sources := map[string]bool{}
	for _, p := range w.Provenance {
		sources[p.Source] = true
		if p.Count < 32 {
			t.Errorf("source %s gave %d bytes", p.Source, p.Count)
		}
	}
	kms := w.Provenance[slices.IndexFunc(w.Provenance, func(p ipc.ProvenanceRecord) bool { return p.Source == "kms" })]
	if len(sources) != 3 || kms.RequestID == "" || kms.Region == "" || bytes.Contains([]byte(kms.RequestID), w.WalletID) {
		t.Errorf("provenance %+v", w.Provenance)
	}
}
