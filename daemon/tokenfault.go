package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sigild/sigild/daemon/audit"
	"github.com/sigild/sigild/daemon/store"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/ipc"
)

// ErrTokenFault is returned while the token is out of service because it gave a
// wrong signature or used a nonce twice. Either may give a key away at the next
// signature, so that only a person may allow one.
var ErrTokenFault = errors.New("the token is out of service: it gave a wrong signature or repeated a nonce; " +
	"find out why, then run `sigild clear-token-fault`")

// faultMark is what is kept of the fault, as JSON: it is for people.
type faultMark struct {
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"`
}

// tokenFault is the mark in memory. The zero value is "out of service": nobody
// knows yet what an earlier run wrote down.
type tokenFault struct {
	mu    sync.Mutex
	known bool // mark, or that there is none
	mark  *faultMark
}

func (f *tokenFault) check() error {
	if f.look() != nil {
		return ErrTokenFault
	}
	return nil
}

// look gives the mark, or nil when the token is in service.
func (f *tokenFault) look() *faultMark {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.known {
		return &faultMark{Reason: "what an earlier run wrote down was not read yet"}
	}
	return f.mark
}

// resume takes over what an earlier run wrote down, nil when that is nothing.
func (f *tokenFault) resume(m *faultMark) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known, f.mark = true, m
}

// set keeps the first mark and reports whether this is it.
func (f *tokenFault) set(m *faultMark) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mark != nil {
		return false
	}
	f.known, f.mark = true, m
	return true
}

// readTokenFault takes over the mark of an earlier run.
func (d *Daemon) readTokenFault() error {
	data, err := d.db.Get(context.Background(), store.TokenFault)
	if err != nil {
		return err
	}
	var m *faultMark
	if data != nil {
		m = &faultMark{Reason: "the mark cannot be read"} // a mark nobody can read still stands
		_ = json.Unmarshal(data, m)
	}
	d.token.fault.resume(m)
	return nil
}

// Distrust takes the token out of service, first in memory, so that no request
// that comes meanwhile signs, then on disk.
func (t *token) Distrust(cause error) {
	m := &faultMark{Time: time.Now().UTC().Truncate(time.Second), Reason: cause.Error()}
	if t.fault.set(m) {
		t.distrusted(m)
	}
}

// keepTokenFault writes down that the token is out of service.
func (d *Daemon) keepTokenFault(m *faultMark) {
	d.health.hurry()
	d.log.Error("the token is out of service", "error", m.Reason)
	data, failed := json.Marshal(m)
	if failed == nil {
		failed = d.db.Put(context.Background(), map[store.Document][]byte{store.TokenFault: data})
	}
	if failed != nil {
		d.log.Error("the token's fault was not written down and is forgotten at the next start", "error", failed)
	}
}

// inspect looks at a request's error before it is answered. A token that signed
// wrongly is taken out of service, if the signature itself did not do it; one that
// failed is looked into.
func (d *Daemon) inspect(err error) {
	d.health.tokenErred(err)
	d.health.diskErred(err)
	d.condemn(err)
}

// condemn takes the token out of service if the error says that it signed wrongly or
// repeated a nonce, whoever met it: a request, a probe, or the token's supervision.
func (d *Daemon) condemn(err error) {
	if errors.Is(err, wallet.ErrToken) || errors.Is(err, wallet.ErrNonceReused) || errors.Is(err, hsm.ErrWrongSignature) {
		d.token.Distrust(err)
	}
}

func outOfService(err error) *ipc.Error {
	if !errors.Is(err, ErrTokenFault) {
		return nil
	}
	return &ipc.Error{Code: codeUnavailable, Reason: "tokenFault", Charged: chargeable(err),
		Message: "the token is out of service until an operator has looked at it"}
}

// ClearTokenFault puts the token back into service. The daemon must be stopped.
// It returns what was wrong, or "" when nothing was.
func ClearTokenFault(ctx context.Context, c *Config) (reason string, err error) {
	db, err := openStore(c.Store.Path)
	if err != nil {
		return "", stopFirst(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	data, err := db.Get(ctx, store.TokenFault)
	if err != nil || data == nil {
		return "", err
	}
	m := faultMark{Reason: "the mark cannot be read"}
	_ = json.Unmarshal(data, &m)
	if err := auditClearing(ctx, c, m); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s: %s", m.Time.Format(time.RFC3339), m.Reason), db.Put(ctx, map[store.Document][]byte{store.TokenFault: nil})
}

// auditClearing writes who allowed the token to sign again, before it may.
func auditClearing(ctx context.Context, c *Config, m faultMark) (err error) {
	log, err := audit.Open(c.Audit.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	return log.Write(ctx, audit.Entry{Time: time.Now().UTC(), Action: "clearTokenFault", UID: uint32(os.Getuid()), PID: int32(os.Getpid()),
		Result: "ok", Detail: map[string]string{"fault": m.Reason}})
}
