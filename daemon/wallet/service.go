package wallet

import (
	"context"
	"time"

	"github.com/sigild/sigild/daemon/seal"
)

// Config holds the service's parts and choices. All parts are required.
type Config struct {
	Installation seal.ID
	Token        Token
	Entropy      Entropy
	Guard        Guard
	Store        Store
	Audit        Audit
	Now          func() time.Time
	KDF          seal.Argon2                // cost of new sealings; its salt is ignored
	Limits       seal.Limits                // of new wallets
	Checks       int                        // PIN stretchings at a time, at least 1
	Waiting      int                        // PIN checks that may wait for one
	MaxUnlocks   int                        // wallets unlocked at a time
	UnlocksOfUID int                        // of which one uid holds so many at most
	PerMinute    int                        // changes of one uid that no PIN check comes before, at least 1
	Allowed      func() Allowed             // asked at each request; nil: nothing is
	Observe      func(Stage, time.Duration) // of the service's own work; nil: nobody asks
}

// Allowed is what the operator lets pass between this installation and others.
type Allowed struct {
	Import bool // keys from elsewhere
	Export bool // exportable wallets, and their keys to elsewhere
}

// Service makes and uses wallets. It is safe for concurrent use.
type Service struct {
	Config
	slots    *slots
	unlocks  *unlocks
	rates    *rates
	freezing *freezing
	changes  *changes
}

// New returns a service of the given parts.
func New(c Config) *Service {
	return &Service{Config: c, slots: newSlots(c.Checks, c.Waiting),
		unlocks: newUnlocks(c.MaxUnlocks, c.UnlocksOfUID), rates: newRates(c.PerMinute), freezing: newFreezing(), changes: new(changes)}
}

func (s *Service) allowed() Allowed {
	if s.Allowed == nil {
		return Allowed{}
	}
	return s.Allowed()
}

// mayImport asks the operator, then the token.
func (s *Service) mayImport(ctx context.Context) error {
	if !s.allowed().Import {
		return ErrImportForbidden
	}
	return s.Token.CanImport(ctx)
}

// mayExport is mayImport for what goes out.
func (s *Service) mayExport(ctx context.Context) error {
	if !s.allowed().Export {
		return ErrExportForbidden
	}
	return s.Token.CanExport(ctx)
}

// Info is a wallet as its relay may see it.
type Info struct {
	Header   *seal.Header
	State    *seal.State
	Attempts Attempts
}

// Get returns a wallet of the peer. ErrNotFound, seal.ErrCorrupt.
func (s *Service) Get(ctx context.Context, peer Peer, id seal.ID) (*Info, error) {
	return s.getFor(ctx, Actor{Peer: peer}, id)
}

func (s *Service) getFor(ctx context.Context, a Actor, id seal.ID) (*Info, error) {
	p, err := s.loadFor(ctx, a, id)
	if err != nil {
		return nil, err
	}
	return s.info(ctx, p)
}

// ByAddress gives the id of the peer's wallet that the index, which has no MAC,
// has for an address. Whoever reads the record compares: see Item.Address.
// ErrNotFound.
func (s *Service) ByAddress(ctx context.Context, peer Peer, address [20]byte) (seal.ID, error) {
	return s.Store.ByAddress(ctx, peer.UID, address)
}

// Find returns the peer's wallet that has the address, and the account's index.
// ErrNotFound.
func (s *Service) Find(ctx context.Context, peer Peer, address [20]byte) (*Info, uint32, error) {
	id, err := s.ByAddress(ctx, peer, address)
	if err != nil {
		return nil, 0, err
	}
	p, err := s.load(ctx, peer, id)
	if err != nil {
		return nil, 0, err
	}
	account, err := accountAt(p, address)
	if err != nil {
		return nil, 0, err
	}
	info, err := s.info(ctx, p)
	return info, account, err
}

// FindExternal returns the peer's wallet that has the external id. ErrNotFound.
func (s *Service) FindExternal(ctx context.Context, peer Peer, externalID string) (*Info, error) {
	id, err := s.Store.ByExternalID(ctx, peer.UID, externalID)
	if err != nil {
		return nil, err
	}
	p, err := s.load(ctx, peer, id)
	if err != nil {
		return nil, err
	}
	if p.State.ExternalID != externalID {
		return nil, seal.ErrCorrupt // the index, which has no MAC, was changed
	}
	return s.info(ctx, p)
}

// info adds the attempts to a record.
func (s *Service) info(ctx context.Context, p *seal.Parsed) (*Info, error) {
	a, err := s.Guard.Attempts(ctx, p.Header.Wallet, p.Header.Limits)
	if err != nil {
		return nil, err
	}
	return &Info{Header: p.Header, State: p.State, Attempts: a}, nil
}

// load reads and verifies a record, and answers ErrNotFound for another
// relay's.
func (s *Service) load(ctx context.Context, peer Peer, id seal.ID) (*seal.Parsed, error) {
	return s.loadFor(ctx, Actor{Peer: peer}, id)
}

// loadFor is load for an actor: an operator reaches every relay's wallets.
func (s *Service) loadFor(ctx context.Context, a Actor, id seal.ID) (*seal.Parsed, error) {
	data, err := s.Store.Record(ctx, id)
	if err != nil {
		return nil, err
	}
	p, err := seal.Parse(ctx, data, s.Installation, id, s.Token.RecordMAC)
	if err != nil {
		return nil, err
	}
	if p.Header.Relay != a.Peer.UID && !a.Operator {
		return nil, ErrNotFound
	}
	return p, nil
}

const (
	maxRequestID = 128
	maxOwner     = 256
	maxLabel     = 256
)

// checkText refuses a text that is too long or has control characters.
func checkText(field, text string, least, most int) error {
	if len(text) < least {
		return &FieldError{field, "is required"}
	}
	if len(text) > most {
		return &FieldError{field, "is too long"}
	}
	for _, r := range text {
		if r < 0x20 || r == 0x7f || r == '\uFFFD' {
			return &FieldError{field, "has characters that are not allowed"}
		}
	}
	return nil
}
