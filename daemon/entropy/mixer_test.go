package entropy_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/entropy"
)

var names = []string{"kms", "token", "tpm"}

func TestSeed(t *testing.T) {
	b := newBench(t, entropy.MixerOptions{})
	before := time.Now()
	seed, err := b.mixer.Seed(t.Context(), []byte("wallet"))
	if err != nil {
		t.Fatal(err)
	}
	defer seed.Wipe()
	if len(seed.Bytes()) != entropy.SeedSize || len(seed.TokenFeed()) != entropy.FeedSize || bytes.Equal(seed.Bytes(), seed.TokenFeed()) {
		t.Errorf("seed of %d, feed of %d bytes", len(seed.Bytes()), len(seed.TokenFeed()))
	}
	var got []string
	for _, p := range seed.Provenance() {
		got = append(got, p.Source)
		if p.Count != entropy.DefaultBytes || p.Manufacturer != "ACME" || p.Model != "RNG 1" || p.Version != "2.3" || p.Time.Before(before.UTC()) {
			t.Errorf("provenance %+v", p)
		}
	}
	if !slices.Equal(got, names) || !slices.Equal(b.mixer.Sources(), names) {
		t.Errorf("sources %v", got)
	}
	b.checkWiped(t)
}

// The seed is Mix over what the sources answered, with nothing added or lost.
func TestSeedIsTheMixOfTheAnswers(t *testing.T) {
	parts := randomParts(names...)
	b := newBench(t, entropy.MixerOptions{})
	for _, p := range parts {
		b.device(p.Name).set(always(p.Bytes))
	}
	seed, err := b.mixer.Seed(t.Context(), []byte("wallet"))
	if err != nil {
		t.Fatal(err)
	}
	defer seed.Wipe()
	want, feed := mustMix(t, []byte("wallet"), parts)
	if !bytes.Equal(seed.Bytes(), want) || !bytes.Equal(seed.TokenFeed(), feed) {
		t.Error("seed is not the mix of the answers")
	}
	for _, p := range parts {
		if b.answers.stored()[p.Name] != entropy.AnswerDigest(p.Name, p.Bytes) {
			t.Errorf("digest of %s is not stored", p.Name)
		}
	}
}

func pattern(period int) func(context.Context, int) ([]byte, error) {
	return func(ctx context.Context, n int) ([]byte, error) {
		block, _ := fresh(ctx, period)
		return bytes.Repeat(block, n/period+1)[:n], nil
	}
}

var errBroken = errors.New("generator self-test failed")

// faults are what a single source can do wrong by itself.
func faults() map[entropy.Reason][]func(context.Context, int) ([]byte, error) {
	resized := func(by int) func(context.Context, int) ([]byte, error) {
		return func(ctx context.Context, n int) ([]byte, error) { return fresh(ctx, n+by) }
	}
	f := map[entropy.Reason][]func(context.Context, int) ([]byte, error){
		entropy.ReasonFailed: {
			func(context.Context, int) ([]byte, error) { return nil, errBroken },
			func(ctx context.Context, n int) ([]byte, error) { b, _ := fresh(ctx, n); return b, errBroken },
		},
		entropy.ReasonTimeout: {func(ctx context.Context, _ int) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }},
		entropy.ReasonShort: {
			resized(-1), resized(1), resized(-32),
			func(context.Context, int) ([]byte, error) { return nil, nil },
		},
		entropy.ReasonConstant: {pattern(1), func(_ context.Context, n int) ([]byte, error) { return make([]byte, n), nil }},
	}
	for period := 2; period <= 16; period++ {
		f[entropy.ReasonPattern] = append(f[entropy.ReasonPattern], pattern(period))
	}
	return f
}

// patience is short only where a test waits for it to end.
func patience(reason entropy.Reason) time.Duration {
	if reason == entropy.ReasonTimeout {
		return 250 * time.Millisecond
	}
	return 10 * time.Second
}

// Promise: a source that fails, answers short or answers with a pattern stops
// the creation, named, with nothing stored and nothing left in memory.
func TestSeedStopsAtOneBadSource(t *testing.T) {
	for _, name := range names {
		for reason, behaviours := range faults() {
			t.Run(name+"/"+reason.String(), func(t *testing.T) {
				for _, bad := range behaviours {
					b := newBench(t, entropy.MixerOptions{Timeout: patience(reason), Parallel: 1})
					b.device(name).set(bad)
					seed, err := b.mixer.Seed(t.Context(), []byte("wallet"))
					fault := wantFault(t, err, name, reason)
					if seed != nil || len(b.answers.stored()) != 0 {
						t.Error("something was made or stored")
					}
					if reason == entropy.ReasonFailed && !errors.Is(fault, errBroken) {
						t.Error("the source's own error is lost")
					}
					if !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), reason.String()) {
						t.Errorf("message %q", err)
					}
					b.device(name).set(fresh)
					b.settle(t)
					b.checkWiped(t)
				}
			})
		}
	}
}

// settle returns when every read of an earlier Seed has returned and was wiped.
// With one place per source, given back last, a further Seed over honest
// sources gets its places only then.
func (b *bench) settle(t testing.TB) {
	t.Helper()
	seed, err := b.mixer.Seed(t.Context(), []byte("settle"))
	if err != nil {
		t.Fatal(err)
	}
	seed.Wipe()
}

// Promise: an answer equal to that source's last one stops the creation, also
// after a restart, and nothing is stored about it.
func TestSeedStopsAtRepeatedAnswer(t *testing.T) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, entropy.MixerOptions{})
			fixed := randomParts("x")[0].Bytes
			b.device(name).set(always(fixed))
			seed, err := b.mixer.Seed(t.Context(), []byte("one"))
			if err != nil {
				t.Fatal(err)
			}
			seed.Wipe()
			stored := b.answers.stored()
			for range 2 {
				for _, m := range []*entropy.Mixer{b.mixer, b.open(t, entropy.MixerOptions{})} {
					_, err := m.Seed(t.Context(), []byte("two"))
					wantFault(t, err, name, entropy.ReasonRepeated)
				}
			}
			for n, d := range b.answers.stored() {
				if stored[n] != d {
					t.Errorf("digest of %s was replaced by a refused creation", n)
				}
			}
			b.device(name).set(fresh)
			again, err := b.mixer.Seed(t.Context(), []byte("three"))
			if err != nil {
				t.Fatalf("an honest answer is refused after a repeated one: %v", err)
			}
			again.Wipe()
			b.checkWiped(t)
		})
	}
}

// Of concurrent creations that see the same answer, one goes through.
func TestSeedConcurrentRepeats(t *testing.T) {
	b := newBench(t, entropy.MixerOptions{})
	b.token.set(always(randomParts("x")[0].Bytes))
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wg.Go(func() {
			seed, err := b.mixer.Seed(t.Context(), []byte("wallet"))
			if err == nil {
				seed.Wipe()
			}
			errs[i] = err
		})
	}
	wg.Wait()
	made := 0
	for _, err := range errs {
		if err == nil {
			made++
			continue
		}
		wantFault(t, err, "token", entropy.ReasonRepeated)
	}
	if made != 1 {
		t.Errorf("%d creations used the same answer", made)
	}
	b.checkWiped(t)
}

// One device behind two names counts only once.
func TestSeedStopsAtDuplicate(t *testing.T) {
	b := newBench(t, entropy.MixerOptions{})
	shared := randomParts("x")[0].Bytes
	b.kms.set(always(shared))
	b.tpm.set(always(shared))
	_, err := b.mixer.Seed(t.Context(), []byte("wallet"))
	wantFault(t, err, "tpm", entropy.ReasonDuplicate)
	if !strings.Contains(err.Error(), "kms") || len(b.answers.stored()) != 0 {
		t.Errorf("got %v", err)
	}
	b.checkWiped(t)
}

// If the digests cannot be stored, a repeating source would go unnoticed.
func TestSeedStopsIfDigestsAreNotStored(t *testing.T) {
	b := newBench(t, entropy.MixerOptions{})
	b.answers.err = errors.New("disk full")
	seed, err := b.mixer.Seed(t.Context(), []byte("wallet"))
	if seed != nil || !errors.Is(err, entropy.ErrAnswers) || !errors.Is(err, b.answers.err) {
		t.Errorf("got %v", err)
	}
	b.checkWiped(t)
}

func TestSeedRefusesBadBindingBeforeReading(t *testing.T) {
	b := newBench(t, entropy.MixerOptions{})
	if _, err := b.mixer.Seed(t.Context(), nil); !errors.Is(err, entropy.ErrPart) {
		t.Errorf("got %v", err)
	}
	if b.kms.reads()+b.token.reads()+b.tpm.reads() != 0 {
		t.Error("randomness was used up")
	}
}

// A caller that gives up is nobody's fault; its deadline is the slow source's.
func TestSeedEndsWithItsContext(t *testing.T) {
	b := newBench(t, entropy.MixerOptions{Parallel: 1})
	started, gaveUp := make(chan struct{}), make(chan struct{})
	b.tpm.set(func(ctx context.Context, n int) ([]byte, error) {
		close(started)
		<-gaveUp
		late, _ := fresh(ctx, n)
		return late, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-started; cancel() }()
	_, err := b.mixer.Seed(ctx, []byte("wallet"))
	close(gaveUp)
	if _, blamed := errors.AsType[*entropy.SourceError](err); blamed || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	b.tpm.set(func(ctx context.Context, _ int) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() })
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = b.mixer.Seed(ctx, []byte("wallet"))
	wantFault(t, err, "tpm", entropy.ReasonTimeout)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	b.tpm.set(fresh)
	b.settle(t)
	b.checkWiped(t)
}

// A source that ignores its deadline does not hold the caller, does not pile up
// reads, and what it answers late is wiped.
func TestSeedLeavesAHungSourceBehind(t *testing.T) {
	b := newBench(t, entropy.MixerOptions{Timeout: 200 * time.Millisecond, Parallel: 1})
	release := make(chan struct{})
	b.token.set(func(ctx context.Context, n int) ([]byte, error) { <-release; return fresh(ctx, n) })
	_, err := b.mixer.Seed(t.Context(), []byte("wallet"))
	wantFault(t, err, "token", entropy.ReasonTimeout)
	_, err = b.mixer.Seed(t.Context(), []byte("wallet"))
	wantFault(t, err, "token", entropy.ReasonBusy)
	if n := b.token.reads(); n != 0 {
		t.Errorf("%d reads came back", n)
	}
	close(release)
	for {
		seed, err := b.mixer.Seed(t.Context(), []byte("wallet"))
		if err == nil { // the only place was given back, after the late answer was wiped
			seed.Wipe()
			break
		}
		wantFault(t, err, "token", entropy.ReasonBusy)
	}
	b.checkWiped(t)
}

// custom is a Source that is not a device.
type custom struct {
	name string
	read func(n int) entropy.Reading
	err  error
}

func (c custom) Name() string { return c.name }

func (c custom) Read(_ context.Context, n int) (entropy.Reading, error) { return c.read(n), c.err }

func TestSeedDemandsProvenance(t *testing.T) {
	full := entropy.Provenance{Source: "kms", Count: 64, RequestID: "id", Region: "eu-central-1", Time: time.Now()}
	for name, change := range map[string]func(*entropy.Provenance){
		"":             func(*entropy.Provenance) {},
		"none":         func(p *entropy.Provenance) { *p = entropy.Provenance{} },
		"other source": func(p *entropy.Provenance) { p.Source = "tpm" },
		"other count":  func(p *entropy.Provenance) { p.Count = 32 },
		"no time":      func(p *entropy.Provenance) { p.Time = time.Time{} },
		"no request":   func(p *entropy.Provenance) { p.RequestID = "" },
		"no region":    func(p *entropy.Provenance) { p.Region = "" },
	} {
		p := full
		change(&p)
		var given []byte
		m, err := entropy.NewMixer([]entropy.Source{custom{name: "kms", read: func(n int) entropy.Reading {
			given, _ = fresh(t.Context(), n)
			return entropy.Reading{Bytes: given, Provenance: p}
		}}}, &memory{}, entropy.MixerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		seed, err := m.Seed(t.Context(), []byte("w"))
		if name == "" {
			if err != nil {
				t.Fatal(err)
			}
			seed.Wipe()
		} else {
			wantFault(t, err, "kms", entropy.ReasonProvenance)
		}
		if !bytes.Equal(given, make([]byte, len(given))) {
			t.Errorf("%s: not wiped", name)
		}
	}
}

// A source that breaks its contract and answers together with an error.
func TestSeedWipesWhatComesWithAnError(t *testing.T) {
	given, _ := fresh(t.Context(), entropy.DefaultBytes)
	read := func(int) entropy.Reading { return entropy.Reading{Bytes: given} }
	m, err := entropy.NewMixer([]entropy.Source{custom{"kms", read, errBroken}}, &memory{}, entropy.MixerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.Seed(t.Context(), []byte("w"))
	wantFault(t, err, "kms", entropy.ReasonFailed)
	if !bytes.Equal(given, make([]byte, len(given))) {
		t.Error("not wiped")
	}
}

func TestNewMixerRefuses(t *testing.T) {
	good := entropy.NewDevice("tpm", model, fresh)
	for name, c := range map[string]struct {
		sources []entropy.Source
		answers entropy.Answers
		options entropy.MixerOptions
	}{
		"no sources":    {nil, &memory{}, entropy.MixerOptions{}},
		"no answers":    {[]entropy.Source{good}, nil, entropy.MixerOptions{}},
		"nil source":    {[]entropy.Source{good, nil}, &memory{}, entropy.MixerOptions{}},
		"name twice":    {[]entropy.Source{good, good}, &memory{}, entropy.MixerOptions{}},
		"bad name":      {[]entropy.Source{entropy.NewDevice("my tpm", model, fresh)}, &memory{}, entropy.MixerOptions{}},
		"31 bytes":      {[]entropy.Source{good}, &memory{}, entropy.MixerOptions{BytesPerSource: 31}},
		"1025 bytes":    {[]entropy.Source{good}, &memory{}, entropy.MixerOptions{BytesPerSource: 1025}},
		"long timeout":  {[]entropy.Source{good}, &memory{}, entropy.MixerOptions{Timeout: time.Hour}},
		"no parallel":   {[]entropy.Source{good}, &memory{}, entropy.MixerOptions{Parallel: -1}},
		"much parallel": {[]entropy.Source{good}, &memory{}, entropy.MixerOptions{Parallel: 65}},
	} {
		if m, err := entropy.NewMixer(c.sources, c.answers, c.options); err == nil || m != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestDeviceFailures(t *testing.T) {
	noModel := func(context.Context) (string, string, string, error) { return "", "", "", errBroken }
	if _, err := entropy.NewDevice("tpm", noModel, fresh).Read(t.Context(), 64); !errors.Is(err, errBroken) {
		t.Errorf("model: %v", err)
	}
	if _, err := entropy.NewDevice("tpm", nil, fresh).Read(t.Context(), 64); err == nil {
		t.Error("a device without a model answers")
	}
	if _, err := entropy.NewDevice("tpm", model, nil).Read(t.Context(), 64); err == nil {
		t.Error("a device without randomness answers")
	}
	anonymous := func(context.Context) (string, string, string, error) { return "", "", "1.0", nil }
	m, err := entropy.NewMixer([]entropy.Source{entropy.NewDevice("tpm", anonymous, fresh)}, &memory{}, entropy.MixerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.Seed(t.Context(), []byte("w"))
	wantFault(t, err, "tpm", entropy.ReasonProvenance)
}

func BenchmarkSeed(b *testing.B) {
	bench := newBench(b, entropy.MixerOptions{})
	for b.Loop() {
		seed, err := bench.mixer.Seed(b.Context(), []byte("wallet"))
		if err != nil {
			b.Fatal(err)
		}
		seed.Wipe()
		bench.kms.given, bench.token.given, bench.tpm.given = nil, nil, nil
	}
}
