package wallet

import (
	"context"
	"time"

	"github.com/sigild/sigild/daemon/seal"
)

// Stage is a part of the service's own work that is timed.
type Stage string

// The stages.
const (
	StageQueue  Stage = "queue"  // waiting for the wallet's turn, or for a free PIN check
	StagePIN    Stage = "pin"    // stretching the PIN and opening the record, without the devices
	StagePolicy Stage = "policy" // deciding, before any charge
)

// clock starts timing a stage; calling what it returns ends it.
func (s *Service) clock(stage Stage) func() {
	if s.Observe == nil {
		return func() {}
	}
	begin := time.Now()
	return func() { s.Observe(stage, time.Since(begin)) }
}

// timedFactors knows how long the devices took.
type timedFactors struct {
	seal.Factors
	took time.Duration
}

func (f *timedFactors) Pepper(ctx context.Context, message []byte, h1 *[32]byte) error {
	begin := time.Now()
	defer func() { f.took += time.Since(begin) }()
	return f.Factors.Pepper(ctx, message, h1)
}

func (f *timedFactors) Host(ctx context.Context, message []byte, h2 *[32]byte) error {
	begin := time.Now()
	defer func() { f.took += time.Since(begin) }()
	return f.Factors.Host(ctx, message, h2)
}

// unseal opens a record and times it.
func (s *Service) unseal(ctx context.Context, p *seal.Parsed, pin []byte, f seal.Factors) (*seal.Wrapped, error) {
	begin, devices := time.Now(), &timedFactors{Factors: f}
	w, err := unseal(ctx, p, pin, devices)
	if s.Observe != nil {
		s.Observe(StagePIN, time.Since(begin)-devices.took)
	}
	return w, err
}
