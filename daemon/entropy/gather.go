package entropy

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// outcome is what one read of one source came to.
type outcome struct {
	index   int // into Mixer.sources
	reading Reading
	fault   *SourceError
}

// gather reads all sources at the same time and returns their checked answers
// in the order of the sources, or the first failure. The others are cancelled
// then; what they still answer is wiped where it arrives.
func (m *Mixer) gather(parent context.Context) ([]Reading, error) {
	ctx, cancel := context.WithTimeout(parent, m.timeout)
	defer cancel()
	outcomes := make(chan outcome)
	abandoned := make(chan struct{})
	defer close(abandoned)
	for i := range m.sources {
		go m.read(ctx, i, outcomes, abandoned)
	}
	return m.collect(parent, outcomes)
}

// collect takes one outcome per source. A source that honours its deadline
// explains itself, so it gets a little longer than the deadline to do so; one
// that does not is left behind.
func (m *Mixer) collect(parent context.Context, outcomes <-chan outcome) ([]Reading, error) {
	overdue := time.NewTimer(m.timeout + m.timeout/10)
	defer overdue.Stop()
	readings := make([]Reading, len(m.sources))
	for range m.sources {
		select {
		case o := <-outcomes:
			if o.fault != nil {
				wipeAll(readings)
				return nil, m.blame(parent, readings, o.fault)
			}
			readings[o.index] = o.reading
		case <-parent.Done():
			wipeAll(readings)
			return nil, m.blame(parent, readings, nil)
		case <-overdue.C:
			wipeAll(readings)
			return nil, m.blame(parent, readings, nil)
		}
	}
	return readings, nil
}

// blame chooses the error: a caller that gave up is no fault of any source; a
// fault without a name is the first source that has not answered.
func (m *Mixer) blame(parent context.Context, readings []Reading, fault *SourceError) error {
	if errors.Is(parent.Err(), context.Canceled) {
		return fmt.Errorf("entropy: no seed made: %w", context.Canceled)
	}
	if fault != nil {
		return fault
	}
	for i, r := range readings {
		if r.Bytes == nil {
			return &SourceError{Source: m.sources[i].Name(), Reason: ReasonTimeout, Err: context.DeadlineExceeded}
		}
	}
	return fmt.Errorf("entropy: no seed made: %w", context.DeadlineExceeded)
}

// read makes one read and hands it over, or wipes it if nobody waits any more.
// The place at the source is given back last, after the wiping.
func (m *Mixer) read(ctx context.Context, index int, outcomes chan<- outcome, abandoned <-chan struct{}) {
	o := outcome{index: index}
	select {
	case m.slots[index] <- struct{}{}:
		defer func() { <-m.slots[index] }()
		o.reading, o.fault = m.ask(ctx, m.sources[index])
	case <-ctx.Done():
		o.fault = &SourceError{Source: m.sources[index].Name(), Reason: ReasonBusy, Err: ctx.Err()}
	}
	select {
	case outcomes <- o:
	case <-abandoned:
		o.reading.wipe()
	}
}

// ask reads one source and checks the answer by itself.
func (m *Mixer) ask(ctx context.Context, s Source) (Reading, *SourceError) {
	r, err := s.Read(ctx, m.count)
	if err != nil {
		r.wipe()
		return Reading{}, readFailure(s.Name(), err)
	}
	if fault := inspect(s.Name(), m.count, r); fault != nil {
		r.wipe()
		return Reading{}, fault
	}
	return r, nil
}

// wipeAll overwrites the bytes of all readings.
func wipeAll(readings []Reading) {
	for _, r := range readings {
		r.wipe()
	}
}
