package daemon

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/store"
	"github.com/sigild/sigild/daemon/wipe"
	"github.com/sigild/sigild/hsm"
)

// ErrLoginRefused is returned when the token refused this PIN before, or may
// have. It is not tried again, because a token locks after a few tries. The
// daemon's exit code is 78 (EX_CONFIG).
var ErrLoginRefused = errors.New("the token refused this user PIN before and it is not tried again: " +
	"put the right PIN where token.pin points, or give it to `sigild recover` where that is the TPM; if the PIN is right after all, `sigild forget-refusal` allows one more try")

// errLastTry is returned when another wrong PIN would lock the token.
var errLastTry = fmt.Errorf("%w. The token says that it locks at the next wrong one: "+
	"when you are sure of the new PIN, run `sigild forget-refusal` and then `sigild recover --pin-fd`", ErrLoginRefused)

// errGivenBefore is returned for a PIN that was given in place of a refused one
// before, and that the token did not take.
var errGivenBefore = fmt.Errorf("%w. It, or another that is as weak, was given to `sigild recover` before: give another, or "+
	"when you are sure of this one, run `sigild forget-refusal` and then `sigild recover --pin-fd`", ErrLoginRefused)

// mark remembers a log-in before it is made: state (1) ‖ tagged (1) ‖ tag (2).
// The tag, the first two bytes of SHA-256(label ‖ installation ‖ PIN), shows
// that the PIN was replaced. A weak PIN has no tag, since 16 bits of it would
// help a guesser, and every mark of one PIN is the same, so that old pages of
// the file add nothing.
type mark [4]byte

const (
	markTrying  = 1 // written before the log-in, and left where the token may have counted it
	markRefused = 2
	markAgain   = 3 // a log-in whose outcome is unknown is tried a second time
)

const markLabel = "sigild/login/v1"

// markTimeout bounds the writes that follow a log-in, whatever became of ctx.
const markTimeout = 30 * time.Second

func newMark(state byte, id seal.ID, pin []byte) mark {
	if weakPIN(pin) {
		return mark{state}
	}
	m := mark{state, 1}
	wipe.Do(func() {
		message := make([]byte, 0, len(markLabel)+len(id)+len(pin))
		message = append(append(append(message, markLabel...), id[:]...), pin...)
		defer clear(message)
		sum := sha256.Sum256(message)
		copy(m[2:], sum[:])
	})
	return m
}

// samePIN reports whether the mark may have been made for pin.
func (m mark) samePIN(id seal.ID, pin []byte) bool {
	return m[1] == 0 || weakPIN(pin) || m.sameTag(id, pin)
}

// sameTag reports whether the mark was made for pin, as far as a tag can tell. Of weak
// PINs each may be any other.
func (m mark) sameTag(id seal.ID, pin []byte) bool {
	again := newMark(m[0], id, pin)
	return subtle.ConstantTimeCompare(again[:], m[:]) == 1
}

// splitMarks gives the mark of the PIN that this installation keeps and, where a person
// gave another in its place, the mark of that one. What nobody can read is the mark of a
// refusal of any PIN.
func splitMarks(data []byte) (kept mark, given *mark) {
	switch len(data) {
	case len(mark{}):
		return mark(data), nil
	case 2 * len(mark{}):
		m := mark(data[len(mark{}):])
		return mark(data[:len(mark{})]), &m
	}
	return mark{markRefused}, nil
}

// loginMarks keeps the mark of one installation.
type loginMarks struct {
	db *store.Store
	id seal.ID
	// own is the mark that this process wrote last. What became of its log-in hsm
	// knows, or will when the module answers. nil: there is none.
	own []byte
}

// login tries the PIN once. Before it does, it says so on disk, so that a
// crash, a restart or a supervisor's loop never spends the token's tries.
func (l *loginMarks) login(ctx context.Context, t *hsm.Token, pin []byte) error {
	if len(pin) == 0 {
		return errors.New("the token's user PIN is empty")
	}
	before, err := l.db.Get(ctx, store.Login)
	if err != nil {
		return err
	}
	state, err := l.mayTry(ctx, t, before, pin)
	if err != nil {
		return err
	}
	if err := l.put(ctx, newMark(state, l.id, pin)); err != nil {
		return err
	}
	refused := newMark(markRefused, l.id, pin)
	return l.settle(ctx, t.Login(ctx, pin), ends{ignored: before, refused: refused[:]})
}

// ends are what is stored after a log-in, by how it ended.
type ends struct{ taken, ignored, refused []byte }

// settle writes down how a log-in ended. One whose end nobody knows keeps its mark.
func (l *loginMarks) settle(ctx context.Context, outcome error, then ends) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), markTimeout)
	defer cancel()
	switch {
	case outcome == nil:
		return l.write(ctx, then.taken)
	case hsm.PINJudged(outcome):
		return errors.Join(ErrLoginRefused, outcome, l.write(ctx, then.refused))
	case hsm.PINIgnored(outcome), errors.Is(outcome, hsm.ErrNotPresented):
		return errors.Join(fmt.Errorf("token log-in: %w", outcome), l.write(ctx, then.ignored))
	}
	return fmt.Errorf("token log-in: %w", outcome)
}

// mayTry decides by the mark of the last log-in. One whose outcome is unknown
// since its process ended is tried once more, unless the token says that a wrong
// PIN was tried.
func (l *loginMarks) mayTry(ctx context.Context, t *hsm.Token, before, pin []byte) (state byte, err error) {
	if len(before) == 0 {
		return markTrying, nil
	}
	m, given := splitMarks(before)
	switch {
	case given != nil && given.sameTag(l.id, pin):
		return 0, ErrLoginRefused
	case !m.samePIN(l.id, pin):
		return markTrying, nil
	case given != nil: // the PIN was refused before another was given in its place
		return 0, ErrLoginRefused
	case m[0] != markRefused && bytes.Equal(before, l.own) && !t.Doubted(pin):
		return m[0], nil
	case m[0] != markTrying:
		return 0, ErrLoginRefused
	}
	counted, err := l.counted(ctx, t, m)
	if counted {
		return 0, errors.Join(ErrLoginRefused, err)
	}
	return markAgain, err
}

// counted reports whether the token says that a wrong PIN was tried, after a log-in whose
// outcome is unknown. Its mark is one of a refusal then: the next process must not depend
// on flags that another log-in may clear.
func (l *loginMarks) counted(ctx context.Context, t *hsm.Token, m mark) (bool, error) {
	info, err := t.Info(ctx)
	if err != nil || !info.UserPINCountLow && !info.UserPINFinalTry {
		return false, err
	}
	m[0] = markRefused
	return true, l.write(ctx, m[:])
}

// refusal gives the mark of a PIN that is not tried again; nil when there is none.
// It looks at the token as mayTry does, so that the PIN is asked for where the kept
// one would not be tried.
func (l *loginMarks) refusal(ctx context.Context, t *hsm.Token) ([]byte, error) {
	data, err := l.db.Get(ctx, store.Login)
	if err != nil || len(data) == 0 {
		return nil, err
	}
	if len(data) != len(mark{}) || data[0] != markTrying {
		return data, nil
	}
	if counted, err := l.counted(ctx, t, mark(data)); !counted || err != nil {
		return nil, err
	}
	return l.db.Get(ctx, store.Login)
}

// loginInstead tries, once, a PIN that a person gives after a refusal, in place of
// the kept one, which the next start would try. So the mark of the refusal stays until
// the caller clears it, and a mistyped PIN never has the kept one tried again. The mark
// of the given one is behind it meanwhile, and as long as the token did not take it.
func (l *loginMarks) loginInstead(ctx context.Context, t *hsm.Token, pin, kept []byte) error {
	before, err := l.refusal(ctx, t)
	if err != nil {
		return err
	}
	if err := l.mayGive(ctx, t, before, pin, kept); err != nil {
		return err
	}
	if err := l.write(ctx, l.withGiven(before, markTrying, pin)); err != nil {
		return err
	}
	// A PIN that was taken may have to be given again, should the TPM not come to keep it.
	return l.settle(ctx, t.Login(ctx, pin),
		ends{taken: before, ignored: before, refused: l.withGiven(before, markRefused, pin)})
}

// mayGive refuses a PIN that was tried before, and one that could be the token's last.
func (l *loginMarks) mayGive(ctx context.Context, t *hsm.Token, before, pin, kept []byte) error {
	m, given := splitMarks(before)
	switch {
	case subtle.ConstantTimeCompare(pin, kept) == 1, m[1] == 1 && m.sameTag(l.id, pin):
		return ErrLoginRefused
	case given != nil && given.sameTag(l.id, pin):
		return errGivenBefore
	}
	info, err := t.Info(ctx)
	if err == nil && info.UserPINFinalTry {
		return errLastTry
	}
	return err
}

// withGiven is the mark of the kept PIN, followed by that of one given in its place.
func (l *loginMarks) withGiven(before []byte, state byte, pin []byte) []byte {
	kept, _ := splitMarks(before)
	given := newMark(state, l.id, pin)
	return append(kept[:], given[:]...)
}

func (l *loginMarks) put(ctx context.Context, m mark) error {
	l.own = m[:]
	return l.write(ctx, m[:])
}

func (l *loginMarks) clear(ctx context.Context) error { return l.write(ctx, nil) }

func (l *loginMarks) write(ctx context.Context, m []byte) error {
	return l.db.Put(ctx, map[store.Document][]byte{store.Login: m})
}

// ForgetRefusal lets the token's user PIN be tried once more after a refusal.
// The daemon must be stopped. It reports whether there was a refusal.
func ForgetRefusal(ctx context.Context, c *Config) (was bool, err error) {
	db, err := openStore(c.Store.Path)
	if err != nil {
		return false, stopFirst(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	data, err := db.Get(ctx, store.Login)
	if err != nil || data == nil {
		return false, err
	}
	return true, (&loginMarks{db: db}).clear(ctx)
}
