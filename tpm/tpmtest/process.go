// Package tpmtest runs the software TPM swtpm: a fresh one for each test, or one
// that a demonstration keeps running. It needs the program swtpm in the PATH.
//
// swtpm has no resource manager: one client at a time may hold handles in it.
package tpmtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

const (
	maxSocketPath = 107              // bytes, without the NUL; sun_path of unix(7)
	startTimeout  = 20 * time.Second // for a loaded machine; it takes some 20 ms
	dialPause     = 2 * time.Millisecond
)

// Process is a running swtpm.
type Process struct {
	Device string // absolute path of its Unix socket

	command *exec.Cmd
	output  *bytes.Buffer // complete once exited is closed
	exited  chan struct{}
}

// Start runs swtpm with its state and its sockets in dir, an existing directory
// (absolute path, at most 90 bytes), and returns when it answers. State that is
// already there is used: the TPM starts as after a power cycle. The process is
// killed when the context ends.
func Start(ctx context.Context, dir string) (*Process, error) {
	device, control := filepath.Join(dir, "tpm.sock"), filepath.Join(dir, "ctrl.sock")
	if !filepath.IsAbs(dir) || len(control) > maxSocketPath {
		return nil, fmt.Errorf("tpmtest: %q is not an absolute path short enough for a socket in it", dir)
	}
	for _, stale := range []string{device, control} {
		if err := os.Remove(stale); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("tpmtest: %w", err)
		}
	}
	p := &Process{Device: device, output: new(bytes.Buffer), exited: make(chan struct{})}
	p.command = exec.CommandContext(ctx, "swtpm", "socket", "--tpm2",
		"--tpmstate", "dir="+dir,
		"--server", "type=unixio,path="+device,
		"--ctrl", "type=unixio,path="+control,
		"--flags", "not-need-init,startup-clear")
	p.command.Stdout, p.command.Stderr = p.output, p.output
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("tpmtest: start swtpm (is it installed?): %w", err)
	}
	go func() {
		_ = p.command.Wait() // how it ended does not matter: it is killed
		close(p.exited)
	}()
	if err := p.await(ctx); err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

// await dials until swtpm accepts.
func (p *Process) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	retry := time.NewTicker(dialPause)
	defer retry.Stop()
	for {
		c, err := net.Dial("unix", p.Device)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.exited:
			return fmt.Errorf("tpmtest: swtpm ended at its start: %s", bytes.TrimSpace(p.output.Bytes()))
		case <-ctx.Done():
			return fmt.Errorf("tpmtest: swtpm does not accept: %w", ctx.Err())
		case <-retry.C:
		}
	}
}

// Kill ends swtpm at once, as a power cut does, and waits until it is gone.
func (p *Process) Kill() {
	_ = p.command.Process.Kill() // an error means that it ended by itself
	<-p.exited
}

// Shutdown announces the end to the TPM, as an orderly shutdown of the platform
// does, and ends swtpm.
func (p *Process) Shutdown() error {
	defer p.Kill()
	return p.connected(func(c transport.TPM) error {
		_, err := tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}.Execute(c)
		return err
	})
}

// Extend extends a PCR of the SHA-256 bank by a 32-byte digest.
func (p *Process) Extend(pcr int, digest [32]byte) error {
	return p.connected(func(c transport.TPM) error {
		_, err := tpm2.PCRExtend{
			PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
			Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{
				{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]},
			}},
		}.Execute(c)
		return err
	})
}

// Advance sets the TPM's clock forward, as if it had been powered that long.
func (p *Process) Advance(d time.Duration) error {
	return p.connected(func(c transport.TPM) error {
		now, err := tpm2.ReadClock{}.Execute(c)
		if err != nil {
			return err
		}
		return clockSet(c, now.CurrentTime.ClockInfo.Clock+uint64(d.Milliseconds()))
	})
}

// clockSet is TPM2_ClockSet (Part 3), which go-tpm v0.9.8 does not have, with
// the owner's empty password.
func clockSet(c transport.TPM, clock uint64) error {
	message := binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMSTSessions))
	message = binary.BigEndian.AppendUint32(message, 10+4+4+9+8)
	message = binary.BigEndian.AppendUint32(message, uint32(tpm2.TPMCCClockSet))
	message = binary.BigEndian.AppendUint32(message, uint32(tpm2.TPMRHOwner))
	message = binary.BigEndian.AppendUint32(message, 9)
	message = binary.BigEndian.AppendUint32(message, uint32(tpm2.TPMRSPW))
	message = append(message, 0, 0, 0, 0, 0) // no nonce, no attributes, an empty password
	message = binary.BigEndian.AppendUint64(message, clock)
	response, err := c.Send(message)
	if err != nil {
		return err
	}
	if code := tpm2.TPMRC(binary.BigEndian.Uint32(response[6:])); code != tpm2.TPMRCSuccess {
		return fmt.Errorf("TPM2_ClockSet: %w", code)
	}
	return nil
}

// Loaded lists the handles of transient objects and sessions in the TPM.
func (p *Process) Loaded() ([]uint32, error) {
	var loaded []uint32
	err := p.connected(func(c transport.TPM) error {
		for _, kind := range []tpm2.TPMHT{tpm2.TPMHTTransient, tpm2.TPMHTHMACSession} {
			response, err := tpm2.GetCapability{
				Capability: tpm2.TPMCapHandles, Property: uint32(kind) << 24, PropertyCount: 64,
			}.Execute(c)
			if err != nil {
				return err
			}
			list, err := response.CapabilityData.Data.Handles()
			if err != nil {
				return err
			}
			for _, handle := range list.Handle {
				loaded = append(loaded, uint32(handle))
			}
		}
		return nil
	})
	return loaded, err
}

// connected runs commands of the test's own. Each uses its own connection, so
// they go between those of another client.
func (p *Process) connected(run func(transport.TPM) error) error {
	c, err := linuxudstpm.Open(p.Device)
	if err != nil {
		return fmt.Errorf("tpmtest: %w", err)
	}
	retry := time.NewTicker(dialPause)
	defer retry.Stop()
	for until := time.Now().Add(startTimeout); ; <-retry.C {
		err := run(c)
		if err == nil {
			return nil
		}
		// So many clients wait for swtpm, which takes one at a time, that
		// there is no place for another.
		if !errors.Is(err, syscall.EAGAIN) || time.Now().After(until) {
			return fmt.Errorf("tpmtest: %w", err)
		}
	}
}
