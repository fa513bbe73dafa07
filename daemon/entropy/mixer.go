package entropy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Answers remembers the digest of each source's last answer ([AnswerDigest]),
// across restarts. It uses standard types only, so that a store implements it
// without importing this package.
type Answers interface {
	// RememberAnswers compares digests, by source name, with those stored
	// last, and replaces them, as one atomic step with respect to every other
	// call and process:
	//
	//   - if at least one equals what is stored under its name, nothing at
	//     all is stored, and the names of those sources are returned;
	//   - else all are stored, durable (fsynced) before the call returns, and
	//     no name is returned. Names stored earlier that are not in digests
	//     stay as they are.
	//
	// On error it is unknown whether they were stored.
	RememberAnswers(ctx context.Context, digests map[string][32]byte) (repeated []string, err error)
}

// The bounds and defaults of MixerOptions.
const (
	defaultReadTimeout = 20 * time.Second
	maxReadTimeout     = 2 * time.Minute
	defaultParallel    = 4
	maxParallel        = 64
)

// MixerOptions tune a Mixer. The zero value takes the defaults.
type MixerOptions struct {
	// BytesPerSource is asked of each source: MinBytes to MaxBytes, default
	// DefaultBytes.
	BytesPerSource int

	// Timeout bounds each read of each source, including the wait for an
	// earlier one: at most 2 minutes, default 20 seconds.
	Timeout time.Duration

	// Parallel bounds the reads of one source at the same time, over all
	// calls of Seed: at most 64, default 4. A read that ignores its deadline
	// keeps its place until it returns.
	Parallel int
}

// Mixer makes seeds out of all of its sources. It is safe for concurrent use.
type Mixer struct {
	sources []Source // sorted by name
	slots   []chan struct{}
	answers Answers
	count   int
	timeout time.Duration
}

// NewMixer makes a mixer that requires every one of sources, at least one, with
// distinct names.
func NewMixer(sources []Source, answers Answers, o MixerOptions) (*Mixer, error) {
	if answers == nil {
		return nil, errors.New("entropy: a store for the last answers is required")
	}
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := checkSources(sources); err != nil {
		return nil, err
	}
	m := &Mixer{answers: answers, count: o.BytesPerSource, timeout: o.Timeout}
	m.sources = slices.SortedFunc(slices.Values(sources), func(a, b Source) int { return cmp.Compare(a.Name(), b.Name()) })
	for range m.sources {
		m.slots = append(m.slots, make(chan struct{}, o.Parallel))
	}
	return m, nil
}

// withDefaults fills in what is zero and refuses what is out of bounds.
func (o MixerOptions) withDefaults() (MixerOptions, error) {
	o.BytesPerSource = cmp.Or(o.BytesPerSource, DefaultBytes)
	o.Timeout = cmp.Or(o.Timeout, defaultReadTimeout)
	o.Parallel = cmp.Or(o.Parallel, defaultParallel)
	switch {
	case o.BytesPerSource < MinBytes || o.BytesPerSource > MaxBytes:
		return o, fmt.Errorf("entropy: %d bytes per source: set %d to %d", o.BytesPerSource, MinBytes, MaxBytes)
	case o.Timeout < 0 || o.Timeout > maxReadTimeout:
		return o, fmt.Errorf("entropy: timeout %s: set at most %s", o.Timeout, maxReadTimeout)
	case o.Parallel < 0 || o.Parallel > maxParallel:
		return o, fmt.Errorf("entropy: %d parallel reads: set 1 to %d", o.Parallel, maxParallel)
	}
	return o, nil
}

// checkSources refuses an empty list, a bad name and a name used twice.
func checkSources(sources []Source) error {
	if len(sources) == 0 {
		return errors.New("entropy: at least one source is required")
	}
	seen := make(map[string]bool, len(sources))
	for _, s := range sources {
		switch {
		case s == nil:
			return errors.New("entropy: a source is missing")
		case !validName(s.Name()):
			return fmt.Errorf("entropy: source name %q: use 1 to 32 of a-z 0-9 - _", s.Name())
		case seen[s.Name()]:
			return fmt.Errorf("entropy: source %s is configured twice", s.Name())
		}
		seen[s.Name()] = true
	}
	return nil
}

// Sources returns the names of the required sources, sorted.
func (m *Mixer) Sources() []string {
	names := make([]string, 0, len(m.sources))
	for _, s := range m.sources {
		names = append(names, s.Name())
	}
	return names
}

// Seed reads every source, checks the answers, stores their digests durably,
// and mixes them, bound to binding (1 to MaxBinding bytes, such as the wallet
// id). The caller wipes the seed.
//
// Errors: [*SourceError] names the source that stopped it; [ErrAnswers] if the
// digests could not be stored; [ErrPart] for a bad binding;
// [context.Canceled] if the caller gave up. No seed and no copy of an answer is
// left behind by an error.
func (m *Mixer) Seed(ctx context.Context, binding []byte) (*Seed, error) {
	if err := checkBinding(binding); err != nil {
		return nil, err
	}
	readings, err := m.gather(ctx)
	if err != nil {
		return nil, err
	}
	defer wipeAll(readings)
	if fault := distinct(readings); fault != nil {
		return nil, fault
	}
	if err := m.remember(ctx, readings); err != nil {
		return nil, err
	}
	return mixReadings(binding, readings)
}

// remember stores the digests before the seed exists, so that an answer which
// was used once is never taken again, also after a crash.
func (m *Mixer) remember(ctx context.Context, readings []Reading) error {
	digests := make(map[string][32]byte, len(readings))
	for _, r := range readings {
		digests[r.Provenance.Source] = AnswerDigest(r.Provenance.Source, r.Bytes)
	}
	repeated, err := m.answers.RememberAnswers(ctx, digests)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAnswers, err)
	}
	if len(repeated) > 0 {
		return &SourceError{Source: slices.Min(repeated), Reason: ReasonRepeated}
	}
	return nil
}

// mixReadings is Mix over readings.
func mixReadings(binding []byte, readings []Reading) (*Seed, error) {
	parts := make([]Part, 0, len(readings))
	provenance := make([]Provenance, 0, len(readings))
	for _, r := range readings {
		parts = append(parts, Part{Name: r.Provenance.Source, Bytes: r.Bytes})
		provenance = append(provenance, r.Provenance)
	}
	seed, feed, err := Mix(binding, parts)
	if err != nil {
		return nil, err
	}
	return &Seed{seed: seed, feed: feed, provenance: provenance}, nil
}
