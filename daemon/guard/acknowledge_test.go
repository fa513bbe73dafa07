package guard_test

import (
	"errors"
	"testing"

	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/store"
)

// P4: what is acknowledged is the database that was found to be the latest, and
// no older copy that was put in its place meanwhile.
func TestP4AcknowledgedIsWhatWasOpened(t *testing.T) {
	bothModes(t, func(t *testing.T, orderly bool) {
		s := newSite(t, orderly)
		s.create(1)
		old := s.copy()
		s.guesses(1, 4)
		s.restart()
		opened := s.ledger
		s.stop()
		s.put(old)
		s.connect()
		var err error
		if s.db, err = store.Open(s.path, false); err != nil {
			t.Fatal(err)
		}
		if l, err := opened.Acknowledge(t.Context(), s.config()); l != nil || !errors.Is(err, guard.ErrRefused) || !errors.Is(err, guard.ErrTree) {
			t.Fatalf("%v, %v", l, err)
		}
		s.restart()
		s.refused(guard.ErrOlderCopy)
	})
}

// P4: nor when a copy of the database used the counter meanwhile.
func TestP4AcknowledgedIsTheLatest(t *testing.T) {
	s := newSite(t, false)
	s.create(1)
	if _, err := s.config().Anchor.Increment(t.Context()); err != nil {
		t.Fatal(err)
	}
	if l, err := s.ledger.Acknowledge(t.Context(), s.config()); l != nil || !errors.Is(err, guard.ErrAnchorMoved) {
		t.Fatalf("%v, %v", l, err)
	}
}

// An acknowledgement begins an epoch, and costs no wallet anything.
func TestAcknowledge(t *testing.T) {
	s := newSite(t, true)
	s.create(1)
	s.guesses(1, 2)
	l, err := s.ledger.Acknowledge(t.Context(), s.config())
	if err != nil {
		t.Fatal(err)
	}
	s.ledger = l
	s.use()
	if st := l.Status(); st.Epoch != 2 || st.Unclean != 0 || s.left(1) != 8 {
		t.Errorf("%+v, %d attempts left", st, s.left(1))
	}
	s.restart()
	s.served()
}
