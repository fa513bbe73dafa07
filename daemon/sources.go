package daemon

import (
	"context"
	"time"

	"github.com/sigild/sigild/daemon/entropy"
	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/tpm"
)

// openSources makes a mixer of every source that the configuration keeps.
func (d *Daemon) openSources(ctx context.Context) error {
	var list []entropy.Source
	for _, name := range d.config.Sources() {
		s, err := d.source(ctx, name)
		if err != nil {
			return err
		}
		list = append(list, s)
	}
	mixer, err := entropy.NewMixer(list, d.db, entropy.MixerOptions{})
	d.mixer = mixer
	return err
}

func (d *Daemon) source(ctx context.Context, name string) (entropy.Source, error) {
	switch name {
	case "tpm":
		return entropy.NewDevice("tpm", d.chipModel, d.lines.tpm.Random), nil
	case "token":
		return entropy.NewDevice("token", d.tokenModel, d.token.Random), nil
	}
	k := d.config.KMS
	kms, err := entropy.NewKMS(ctx, entropy.KMSConfig{Region: k.Region, Endpoint: k.Endpoint,
		AllowPlaintext: k.AllowHTTP, Timeout: time.Duration(k.Timeout), MaxAttempts: k.Attempts})
	d.kms = kms
	return kms, err
}

func (d *Daemon) chipModel(context.Context) (manufacturer, model, version string, err error) {
	i := d.lines.tpm.chip.Load()
	if i == nil {
		return "", "", "", tpm.ErrUnavailable
	}
	return i.Manufacturer, i.VendorString, i.FirmwareVersion, nil
}

func (d *Daemon) tokenModel(context.Context) (manufacturer, model, version string, err error) {
	c := d.lines.token.Last()
	if c == nil {
		return "", "", "", hsm.ErrUnavailable
	}
	i := c.Info
	return i.Manufacturer, i.Model, i.FirmwareVersion, nil
}
