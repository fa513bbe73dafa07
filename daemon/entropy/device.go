package entropy

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// device is a source in this host: the TPM or the token.
type device struct {
	name   string
	model  func(ctx context.Context) (manufacturer, model, version string, err error)
	random func(ctx context.Context, n int) ([]byte, error)
}

var _ Source = (*device)(nil)

// NewDevice makes a source of a local device, such as "tpm" (TPM2_GetRandom
// over an encrypted session) or "token" (C_GenerateRandom). model says what the
// device is, at every read, since a token of a high-availability group may be
// another one than before; random returns exactly n fresh bytes that the caller
// owns. Both are called from several goroutines at once and honour the
// context's deadline. A missing function makes every read fail.
func NewDevice(
	name string,
	model func(ctx context.Context) (manufacturer, model, version string, err error),
	random func(ctx context.Context, n int) ([]byte, error),
) Source {
	return &device{name: name, model: model, random: random}
}

// Name returns the name given to NewDevice.
func (d *device) Name() string { return d.name }

// Read asks the device what it is, then for n bytes.
func (d *device) Read(ctx context.Context, n int) (Reading, error) {
	if d.model == nil || d.random == nil {
		return Reading{}, errors.New("device is not connected to the mixer")
	}
	manufacturer, model, version, err := d.model(ctx)
	if err != nil {
		return Reading{}, fmt.Errorf("model: %w", err)
	}
	b, err := d.random(ctx, n)
	if err != nil {
		clear(b)
		return Reading{}, fmt.Errorf("random: %w", err)
	}
	return Reading{Bytes: b, Provenance: Provenance{
		Source:       d.name,
		Count:        len(b),
		Manufacturer: manufacturer,
		Model:        model,
		Version:      version,
		Time:         time.Now().UTC(),
	}}, nil
}
