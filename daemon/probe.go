package daemon

import (
	"context"

	"github.com/sigild/sigild/hsm"
)

// ProbeOptions name the token to look at.
type ProbeOptions struct {
	Module, Label, Serial string
	Ask                   Prompt // nil: without log-in, the mechanism list only
}

// ProbeReport says what a token can do.
type ProbeReport struct {
	Manufacturer string    `json:"manufacturer"`
	Model        string    `json:"model"`
	Serial       string    `json:"serial"`
	Firmware     string    `json:"firmware"`
	Abilities    []Ability `json:"abilities"`
}

// Ability is one thing that sigild asks of a token.
type Ability struct {
	Name   string `json:"name"`
	Result string `json:"result"` // "ok", "missing", or what else the token answered
	Detail string `json:"detail,omitempty"`
}

// Probe tries each ability of a token with session objects; it leaves nothing
// behind. A wrong PIN costs the token one try.
func Probe(ctx context.Context, o ProbeOptions) (*ProbeReport, error) {
	if _, err := protect(); err != nil {
		return nil, err
	}
	var pin []byte
	if o.Ask != nil {
		var err error
		pin, err = o.Ask(ctx, "User PIN of the token")
		defer clear(pin)
		if err != nil {
			return nil, err
		}
	}
	found, err := hsm.ProbeToken(ctx, hsm.Config{Module: o.Module, Label: o.Label, Serial: o.Serial}, pin)
	if err != nil {
		return nil, err
	}
	r := &ProbeReport{Manufacturer: found.Info.Manufacturer, Model: found.Info.Model,
		Serial: found.Info.Serial, Firmware: found.Info.FirmwareVersion}
	for _, a := range found.Abilities {
		r.Abilities = append(r.Abilities, Ability{Name: a.Name, Result: string(a.State), Detail: a.Detail})
	}
	return r, nil
}
