package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// Config is the whole file. Zero values were replaced by defaults.
type Config struct {
	// Dev marks a throw-away installation: every status says so.
	Dev     bool    `toml:"dev"`
	Socket  Socket  `toml:"socket"`
	Store   Store   `toml:"store"`
	Audit   Audit   `toml:"audit"`
	Token   Token   `toml:"token"`
	TPM     TPM     `toml:"tpm"`
	Entropy Entropy `toml:"entropy"`
	KMS     KMS     `toml:"kms"`
	PIN     PIN     `toml:"pin"`
	Wallets Wallets `toml:"wallets"`
	Custody Custody `toml:"custody"`
	Guard   Guard   `toml:"guard"`
	Limits  Limits  `toml:"limits"`
	Log     Log     `toml:"log"`
	Metrics Metrics `toml:"metrics"`
	// Ethereum is what programs that take sigild for a node are told.
	Ethereum Ethereum `toml:"ethereum"`
	Landlock Landlock `toml:"landlock"`
	Watchdog Watchdog `toml:"watchdog"`
}

// Socket is where relays connect.
type Socket struct {
	Path  string   `toml:"path"`
	Mode  string   `toml:"mode"`  // octal, as chmod takes it
	Group string   `toml:"group"` // name or number; empty: the daemon's own
	Allow []uint32 `toml:"allow"` // uids; absent: the daemon's own and root
	// Operators may unfreeze, restore and delete any relay's wallets.
	Operators []uint32 `toml:"operators"` // uids; absent: root
}

// Store is the database.
type Store struct {
	Path string `toml:"path"`
}

// Audit is the log of requests.
type Audit struct {
	Path string `toml:"path"`
}

// Token is the PKCS#11 token, chosen by exactly one of Label and Serial.
type Token struct {
	Module   string   `toml:"module"`
	Label    string   `toml:"label"`
	Serial   string   `toml:"serial"`
	PIN      string   `toml:"pin"`      // where the user PIN comes from, never the PIN
	Software bool     `toml:"software"` // a software token other than SoftHSM, which is recognised
	Sessions int      `toml:"sessions"`
	Keepers  int      `toml:"keepers"`
	Timeout  Duration `toml:"timeout"`
}

// TPM is the host's TPM 2.0 and the PCRs that its objects are bound to.
type TPM struct {
	Device  string   `toml:"device"`
	Timeout Duration `toml:"timeout"`
	Profile string   `toml:"profile"` // "uki", "grub" or "list"; never assumed
	PCRs    []int    `toml:"pcrs"`    // for "list"
	Force   bool     `toml:"force"`   // accept PCRs that any OS behind the same shim has
}

// Entropy says which one source a wallet may do without.
type Entropy struct {
	Drop []string `toml:"drop"` // "kms", "tpm", "token"
}

// KMS is AWS Key Management Service, as a source of randomness only.
type KMS struct {
	Region    string   `toml:"region"`
	Endpoint  string   `toml:"endpoint"` // empty: the region's own
	AllowHTTP bool     `toml:"allow_http"`
	Timeout   Duration `toml:"timeout"` // of one attempt
	Attempts  int      `toml:"attempts"`
}

// PIN is the cost of new sealings and the attempts of new wallets.
type PIN struct {
	Memory      uint32 `toml:"argon2_memory_kib"`
	Time        uint32 `toml:"argon2_time"`
	Threads     uint8  `toml:"argon2_threads"`
	Checks      int    `toml:"checks"` // at a time; 0: one a processor
	Waiting     int    `toml:"waiting"`
	Consecutive uint32 `toml:"consecutive"`
	Window      uint32 `toml:"window"`
	WindowDays  uint32 `toml:"window_days"`
	Lifetime    uint32 `toml:"lifetime"`
	// PlainFrom may send PINs in the clear; others seal them.
	PlainFrom []uint32 `toml:"plain_from"` // uids; absent: the daemon's own and root
}

// Wallets are choices about wallets in general.
type Wallets struct {
	DeleteGrace Duration `toml:"delete_grace"` // from deletion to purge
}

// Custody is whether keys may come from elsewhere, and go there. The zero value
// is no.
type Custody struct {
	Import bool `toml:"import"` // wallets of private keys that exist elsewhere
	Export bool `toml:"export"` // exportable wallets, and their keys by their PIN
}

// Guard is the TPM counter that older copies of the database are found by.
type Guard struct {
	Anchor        string `toml:"anchor"`         // "orderly" or "durable"
	Handle        uint32 `toml:"handle"`         // NV index of the counter
	UncleanHandle uint32 `toml:"unclean_handle"` // NV index of the counter of unclean starts
}

// Limits bound what one connection, one uid and all of them may ask for.
type Limits struct {
	MessageBytes      int      `toml:"message_bytes"`
	Depth             int      `toml:"depth"`
	Batch             int      `toml:"batch"`
	InFlight          int      `toml:"in_flight"`
	InFlightPerUID    int      `toml:"in_flight_per_uid"`
	InFlightBytes     int      `toml:"in_flight_bytes_per_uid"`
	Connections       int      `toml:"connections"`
	ConnectionsPerUID int      `toml:"connections_per_uid"`
	IdleTimeout       Duration `toml:"idle_timeout"`
	WriteTimeout      Duration `toml:"write_timeout"`
	RequestTimeout    Duration `toml:"request_timeout"`
	Unlocks           int      `toml:"unlocks"`         // wallets unlocked at a time
	UnlocksPerUID     int      `toml:"unlocks_per_uid"` // of which one uid holds so many at most; 0: half of them
	SealedPINs        int      `toml:"sealed_pins"`     // of one uid, kept in mind until they expire
	// ChangesPerMinute are those of one uid that no PIN check comes before.
	ChangesPerMinute int `toml:"changes_per_minute"`
}

// UnlocksOfUID is how many wallets one uid may have unlocked at a time.
func (l Limits) UnlocksOfUID() int {
	if l.UnlocksPerUID == 0 {
		return (l.Unlocks + 1) / 2
	}
	return l.UnlocksPerUID
}

// Log is the daemon's own log, on standard error.
type Log struct {
	Level  string `toml:"level"`  // "debug", "info", "warn", "error"
	Format string `toml:"format"` // "text" or "json"
}

// Watchdog says when the service manager's watchdog is left to restart the daemon.
type Watchdog struct {
	DeviceHang Duration `toml:"device_hang"` // how long a device may leave every call unanswered
}

// Duration is a time.Duration written as Go writes it: "10s", "1m30s".
type Duration time.Duration

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// Default is the configuration of an empty file. It is not valid: the token,
// the PCR profile and the KMS region have no default.
func Default() Config {
	second := func(n time.Duration) Duration { return Duration(n * time.Second) }
	return Config{
		Socket: Socket{Path: "/run/sigild/sigild.sock", Mode: "0660"},
		Store:  Store{Path: "/var/lib/sigild/sigild.db"},
		Audit:  Audit{Path: "/var/lib/sigild/audit.log"},
		Token:  Token{PIN: "tpm", Sessions: 4, Keepers: 4, Timeout: second(10)},
		TPM:    TPM{Device: "/dev/tpmrm0", Timeout: second(10)},
		KMS:    KMS{Timeout: second(5), Attempts: 4},
		PIN: PIN{Memory: 19456, Time: 2, Threads: 1, Waiting: 256,
			Consecutive: 10, Window: 30, WindowDays: 30, Lifetime: 1000},
		Wallets: Wallets{DeleteGrace: second(30 * 24 * 3600)},
		Limits: Limits{MessageBytes: 2 << 20, Depth: 64, Batch: 64, InFlight: 32, InFlightPerUID: 128, InFlightBytes: 64 << 20,
			Connections: 256, ConnectionsPerUID: 64, IdleTimeout: second(600), WriteTimeout: second(30),
			RequestTimeout: second(60), Unlocks: 1000, ChangesPerMinute: 600, SealedPINs: 16384},
		Guard:    Guard{Anchor: "orderly", Handle: 0x01800151, UncleanHandle: 0x01800152},
		Log:      Log{Level: "info", Format: "text"},
		Metrics:  Metrics{Mode: "0660"},
		Ethereum: Ethereum{Accounts: 100, SignTransactionResult: "raw"},
		Landlock: Landlock{Enable: true},
		Watchdog: Watchdog{DeviceHang: second(900)},
	}
}

// Load reads and checks the file at path. Every error names the file and, where
// there is one, the key.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	c, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// Parse reads and checks a configuration.
func Parse(data []byte) (*Config, error) {
	c := Default()
	d := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return nil, explain(err)
	}
	if err := exact(data); err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	return &c, nil
}

// explain names the keys that a decoding error is about.
func explain(err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) {
		errs := make([]error, 0, len(unknown.Errors))
		for _, e := range unknown.Errors {
			row, _ := e.Position()
			errs = append(errs, fmt.Errorf("line %d: unknown key %s", row, dotted(e.Key())))
		}
		return errors.Join(errs...)
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		row, _ := bad.Position()
		return fmt.Errorf("line %d: %s: %w", row, dotted(bad.Key()), bad)
	}
	return err
}

func dotted(key toml.Key) string {
	var b bytes.Buffer
	for i, k := range key {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(k)
	}
	return b.String()
}
