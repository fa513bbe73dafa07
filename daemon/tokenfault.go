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

// tokenFault is the mark in memory. The zero value is "in service".
type tokenFault struct {
	mu   sync.Mutex
	mark *faultMark
}

func (f *tokenFault) check() error {
	if f.look() != nil {
		return ErrTokenFault
	}
	return nil
}

func (f *tokenFault) look() *faultMark {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mark
}

// set keeps the first mark and reports whether this is it.
func (f *tokenFault) set(m *faultMark) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mark != nil {
		return false
	}
	f.mark = m
	return true
}

// readTokenFault takes over the mark of an earlier run.
func (d *Daemon) readTokenFault() error {
	data, err := d.db.Get(context.Background(), store.TokenFault)
	if err != nil || data == nil {
		return err
	}
	m := &faultMark{Reason: "the mark cannot be read"} // a mark nobody can read still stands
	_ = json.Unmarshal(data, m)
	d.token.fault.set(m)
	return nil
}

// inspect looks at a request's error before it is answered. A token that signed
// wrongly or repeated a nonce is taken out of service, first in memory, then on
// disk; one that failed is looked into.
func (d *Daemon) inspect(ctx context.Context, err error) {
	d.health.tokenErred(err)
	d.health.diskErred(err)
	if !errors.Is(err, wallet.ErrToken) && !errors.Is(err, wallet.ErrNonceReused) {
		return
	}
	m := &faultMark{Time: time.Now().UTC().Truncate(time.Second), Reason: err.Error()}
	if !d.token.fault.set(m) {
		return
	}
	d.health.hurry()
	d.log.ErrorContext(ctx, "the token is out of service", "error", err)
	data, failed := json.Marshal(m)
	if failed == nil {
		failed = d.db.Put(context.WithoutCancel(ctx), map[store.Document][]byte{store.TokenFault: data})
	}
	if failed != nil {
		d.log.ErrorContext(ctx, "the token's fault was not written down and is forgotten at the next start", "error", failed)
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
