package config_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/config"
)

// least is the shortest valid file.
const least = `
[token]
module = "/usr/lib/softhsm/libsofthsm2.so"
label = "sigild"
[tpm]
profile = "uki"
[kms]
region = "eu-central-1"
`

// with sets keys of one table, or of none, in the shortest file.
func with(table, keys string) string {
	if table == "" {
		return keys + "\n" + least
	}
	head := "[" + table + "]\n"
	if strings.Contains(least, head) {
		return strings.Replace(least, head, head+keys+"\n", 1)
	}
	return least + head + keys + "\n"
}

// without drops one line of the shortest file and sets keys in its place.
func without(key, instead string) string {
	var b strings.Builder
	for text := range strings.Lines(least) {
		if strings.HasPrefix(text, key+" = ") {
			text = instead + "\n"
		}
		b.WriteString(text)
	}
	return b.String()
}

func TestLeastIsDefault(t *testing.T) {
	c, err := config.Parse([]byte(least))
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	if c.Socket.Path != want.Socket.Path || !reflect.DeepEqual(c.PIN, want.PIN) || c.Limits != want.Limits || c.Log != want.Log {
		t.Fatalf("%+v, want the defaults", c)
	}
	if !slices.Equal(c.Sources(), []string{"kms", "token", "tpm"}) || c.Socket.FileMode() != 0o660 || c.Socket.Allow != nil {
		t.Fatalf("sources %v, mode %v, allow %v", c.Sources(), c.Socket.FileMode(), c.Socket.Allow)
	}
}

func TestEmptyFileNamesWhatIsRequired(t *testing.T) {
	_, err := config.Parse(nil)
	for _, key := range []string{"token.module", "token.label", "token.serial", "tpm.profile", "kms.region"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("err = %v, want one that names %s", err, key)
		}
	}
}

func TestAccepted(t *testing.T) {
	for name, text := range map[string]string{
		"serial":             without("label", `serial = "0123"`),
		"PIN of a file":      with("token", `pin = "file:/etc/sigild/pin"`),
		"PIN of systemd":     with("token", `pin = "credential:token-pin"`),
		"PIN of a person":    with("token", `pin = "prompt"`),
		"list":               without("profile", "profile = \"list\"\npcrs = [7, 11]"),
		"without KMS":        without("region", "[entropy]\ndrop = [\"kms\"]"),
		"without the token":  with("entropy", `drop = ["token"]`),
		"KMS over a tunnel":  with("kms", `endpoint = "https://kms.internal:8443"`),
		"KMS of a test":      with("kms", "endpoint = \"http://127.0.0.1:8080\"\nallow_http = true"),
		"KMS of a test, v6":  with("kms", "endpoint = \"http://[::1]:8080\"\nallow_http = true"),
		"uids":               with("socket", "allow = [0, 4294967295]"),
		"the owner alone":    with("socket", `mode = "0600"`),
		"longest times":      with("limits", `idle_timeout = "24h"`),
		"no one waits":       with("pin", "waiting = 0"),
		"files of a module":  with("landlock", "read = [\"/opt/vendor\"]\nwrite = [\"/var/log/vendor\"]"),
		"no Landlock":        with("landlock", "enable = false"),
		"an HSM's port":      without("region", "[entropy]\ndrop = [\"kms\"]\n[landlock]\ntcp_connect = [1792]"),
		"a line's end of NT": strings.ReplaceAll(least, "\n", "\r\n"),
	} {
		if _, err := config.Parse([]byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each value that is out of range, unsafe or contradicts another is refused,
// and the error names the key.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ table, keys, want string }{
		{"landlock", `read = ["vendor.conf"]`, "landlock.read"},
		{"landlock", `write = ["/var/log/../lib"]`, "landlock.write"},
		{"landlock", `tcp_connect = [1792]`, "landlock.tcp_connect"}, // KMS is on
		{"landlock", "enable = false\nread = [\"/opt/vendor\"]", "landlock.enable"},
		{"landlock", `enable = "yes"`, "landlock.enable"},
		{"watchdog", `device_hang = "0s"`, "watchdog.device_hang"},
		{"watchdog", `device_hang = "25h"`, "watchdog.device_hang"},
		{"socket", `path = "sigild.sock"`, "socket.path"},
		{"socket", `path = "/run/../sigild.sock"`, "socket.path"},
		{"socket", `mode = "rw"`, "socket.mode"},
		{"socket", `mode = "0770"`, "socket.mode"},
		{"socket", `mode = "0060"`, "socket.mode"},
		{"socket", `mode = "04660"`, "socket.mode"},
		{"socket", `allow = []`, "socket.allow"},
		{"socket", `allow = [-1]`, "socket.allow"},
		{"socket", `allow = [4294967296]`, "socket.allow"},
		{"socket", `allow = ["relay"]`, "socket.allow"},
		{"ethereum", `chain_id = -1`, "ethereum.chain_id"},
		{"ethereum", `chain_id = 9223372036854775808`, "ethereum.chain_id"},
		{"ethereum", `accounts = -1`, "ethereum.accounts"},
		{"ethereum", `accounts = 1001`, "ethereum.accounts"},
		{"ethereum", `sign_transaction_result = "hex"`, "ethereum.sign_transaction_result"},
		{"store", `path = ""`, "store.path"},
		{"store", `path = "/var/lib/sigild/audit.log"`, "store.path, audit.path"},
		{"store", `path = "/run/sigild/sigild.sock"`, "socket.path, store.path"},
		{"audit", `path = "audit.log"`, "audit.path"},
		{"audit", `path = "/run/sigild/sigild.sock"`, "socket.path, audit.path"},
		{"token", `serial = "0123"`, "token.label, token.serial"},
		{"token", `sessions = 0`, "token.sessions"},
		{"token", `sessions = 65`, "token.sessions"},
		{"token", `keepers = 0`, "token.keepers"},
		{"token", `timeout = "0s"`, "token.timeout"},
		{"token", `timeout = "-1s"`, "token.timeout"},
		{"token", `timeout = "61s"`, "token.timeout"},
		{"token", `timeout = 10`, "token.timeout"},
		{"token", `timeout = 10000000000`, "token.timeout"},
		{"token", `timeout = "10"`, "token.timeout"},
		{"tpm", `device = "tpmrm0"`, "tpm.device"},
		{"tpm", `timeout = "2m"`, "tpm.timeout"},
		{"tpm", `pcrs = [7]`, "tpm.pcrs"},
		{"entropy", `drop = ["dice"]`, "entropy.drop"},
		{"entropy", `drop = ["tpm", "tpm"]`, "entropy.drop"},
		{"entropy", `drop = ["tpm", "token"]`, "entropy.drop"},
		{"entropy", `drop = ["kms", "tpm", "token"]`, "entropy.drop"},
		{"entropy", `drop = ["kms"]`, "kms.region"},
		{"kms", `endpoint = "kms.eu-central-1.amazonaws.com"`, "kms.endpoint"},
		{"kms", `endpoint = "http://kms.eu-central-1.amazonaws.com"`, "kms.endpoint"},
		{"kms", `endpoint = "http://127.0.0.1"`, "kms.endpoint"},
		{"kms", "endpoint = \"http://10.0.0.1\"\nallow_http = true", "kms.endpoint"},
		{"kms", "endpoint = \"http://localhost\"\nallow_http = true", "kms.endpoint"},
		{"kms", `endpoint = "https://user:word@kms.internal"`, "kms.endpoint"},
		{"kms", `endpoint = "ftp://kms.internal"`, "kms.endpoint"},
		{"kms", `timeout = "0s"`, "kms.timeout"},
		{"kms", `attempts = 0`, "kms.attempts"},
		{"kms", `attempts = 11`, "kms.attempts"},
		{"pin", `argon2_memory_kib = 8191`, "pin.argon2_memory_kib"},
		{"pin", `argon2_memory_kib = 262145`, "pin.argon2_memory_kib"},
		{"pin", `argon2_time = 0`, "pin.argon2_time"},
		{"pin", `argon2_time = 17`, "pin.argon2_time"},
		{"pin", `argon2_threads = 5`, "pin.argon2_threads"},
		{"pin", `argon2_threads = 256`, "pin.argon2_threads"},
		{"pin", `checks = -1`, "pin.checks"},
		{"pin", `waiting = 65537`, "pin.waiting"},
		{"pin", `consecutive = 0`, "pin.consecutive"},
		{"pin", `consecutive = 11`, "pin.consecutive"},
		{"pin", `window = 0`, "pin.window"},
		{"pin", `window = 61`, "pin.window"},
		{"pin", `window_days = 366`, "pin.window_days"},
		{"pin", `lifetime = 9`, "pin.lifetime"},
		{"limits", `message_bytes = 4095`, "limits.message_bytes"},
		{"limits", `in_flight_bytes_per_uid = 2097151`, "limits.in_flight_bytes_per_uid"},
		{"limits", `depth = 7`, "limits.depth"},
		{"limits", `batch = 0`, "limits.batch"},
		{"limits", `in_flight = 0`, "limits.in_flight"},
		{"limits", `in_flight_per_uid = 0`, "limits.in_flight_per_uid"},
		{"limits", `connections = 0`, "limits.connections"},
		{"limits", `connections_per_uid = 16385`, "limits.connections_per_uid"},
		{"limits", `idle_timeout = "25h"`, "limits.idle_timeout"},
		{"limits", `write_timeout = "0s"`, "limits.write_timeout"},
		{"limits", `request_timeout = "2h"`, "limits.request_timeout"},
		{"limits", `unlocks = 100001`, "limits.unlocks"},
		{"limits", `unlocks_per_uid = 1001`, "limits.unlocks_per_uid, limits.unlocks"},
		{"limits", `changes_per_minute = 0`, "limits.changes_per_minute"},
		{"limits", `in_flight_per_uid = 10`, "limits.in_flight, limits.in_flight_per_uid"},
		{"limits", `in_flight = 500`, "limits.in_flight, limits.in_flight_per_uid"},
		{"limits", `batch = 129`, "limits.batch, limits.in_flight_per_uid"},
		{"limits", `connections_per_uid = 1000`, "limits.connections_per_uid, limits.connections"},
		{"log", `level = "verbose"`, "log.level"},
		{"log", `format = "xml"`, "log.format"},
		{"", `dev = "yes"`, "dev"},
	} {
		if _, err := config.Parse([]byte(with(c.table, c.keys))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("[%s] %s: err = %v, want one that names %s", c.table, c.keys, err, c.want)
		}
	}
}

func TestRefusedInPlaceOfARequiredKey(t *testing.T) {
	for _, c := range []struct{ key, instead, want string }{
		{"module", ``, "token.module"},
		{"module", `module = "libsofthsm2.so"`, "token.module"},
		{"label", ``, "token.label, token.serial"},
		{"profile", ``, "tpm.profile"},
		{"profile", `profile = "UKI"`, "tpm.profile"},
		{"profile", `profile = "list"`, "tpm.pcrs"},
		{"profile", "profile = \"list\"\npcrs = [24]", "tpm.pcrs"},
		{"profile", "profile = \"list\"\npcrs = [-1]", "tpm.pcrs"},
		{"region", ``, "kms.region"},
		{"region", "endpoint = \"https://kms.internal\"\n[entropy]\ndrop = [\"kms\"]", "kms.endpoint"},
	} {
		if _, err := config.Parse([]byte(without(c.key, c.instead))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q for %s: err = %v, want one that names %s", c.instead, c.key, err, c.want)
		}
	}
}

// A key that nobody reads is named with its line; all of them are, in one run.
func TestUnknownKeys(t *testing.T) {
	_, err := config.Parse([]byte("colour = 1\n[token]\nmodul = \"/x\"\n[tokens]\nlabel = \"a\"\n[kms.retry]\nmost = 3\n"))
	for _, want := range []string{"line 1: unknown key colour", "line 3: unknown key token.modul",
		"line 4: unknown key tokens", "unknown key kms.retry"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("err = %v, want %q", err, want)
		}
	}
}

// Two spellings of one key could contradict each other.
func TestKeysInAnotherCaseAreUnknown(t *testing.T) {
	for _, c := range []struct{ table, keys, want string }{
		{"kms", `Region = "us-east-1"`, "kms.Region"},
		{"Socket", `mode = "0600"`, "Socket"},
		{"", `DEV = true`, "DEV"},
	} {
		if _, err := config.Parse([]byte(with(c.table, c.keys))); err == nil || !strings.Contains(err.Error(), "unknown key "+c.want) {
			t.Errorf("%s: err = %v, want unknown key %s", c.keys, err, c.want)
		}
	}
}

func TestSyntaxErrorsNameTheLine(t *testing.T) {
	for text, want := range map[string]string{
		"dev = true\ndev = true\n":     "line 2",
		"[log]\n\nlevel = \n":          "line 3",
		"[log]\nlevel = 1\n":           "line 2: log.level",
		"[token]\n[log]\n[token]\n":    "line 3",
		"[pin]\nwaiting = 1.5\n":       "line 2: pin.waiting",
		"[limits]\nbatch = \"many\"\n": "line 2: limits.batch",
	} {
		if _, err := config.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: err = %v, want %s", text, err, want)
		}
	}
}

// Whoever puts the PIN itself into the file does not find it in the log.
func TestErrorsDoNotShowThePIN(t *testing.T) {
	for _, keys := range []string{`pin = "canary73"`, `pin = "file:canary73"`, `pin = "tpm:canary73"`, `pin = "credential:../canary73"`,
		`pin = canary73`, `pin = "canary73`, `pin = ["canary73"]`, `pin = 7373737373`, "pin = \"tpm\"\npin = \"canary73\""} {
		_, err := config.Parse([]byte(with("token", keys)))
		if err == nil || strings.Contains(err.Error(), "canary73") || strings.Contains(err.Error(), "7373737373") {
			t.Errorf("%s: err = %v", keys, err)
		}
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sigild.toml")
	if _, err := config.Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("err = %v, want fs.ErrNotExist", err)
	}
	if err := os.WriteFile(path, []byte("x = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("err = %v, want one that names the file", err)
	}
	if err := os.WriteFile(path, []byte(least), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := config.Load(path); err != nil || time.Duration(c.Token.Timeout) != 10*time.Second {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestPINSource(t *testing.T) {
	for text, want := range map[string][2]string{
		"tpm": {"tpm", ""}, "prompt": {"prompt", ""}, "file:/a:b": {"file", "/a:b"}, "credential:x": {"credential", "x"},
	} {
		if kind, name := (config.Token{PIN: text}).PINSource(); kind != want[0] || name != want[1] {
			t.Errorf("%s: %s, %s", text, kind, name)
		}
	}
}

// FuzzParse wants that what is accepted is within its limits and names at least
// one source, and that nothing else is returned with an error.
func FuzzParse(f *testing.F) {
	example, err := os.ReadFile(examplePath)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	for _, seed := range []string{least, "", "[token]\npin = 1", "[kms]\nRegion = 1", "a.b.c = {d = [1, {e = 2}]}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Parse(data)
		if (c == nil) == (err == nil) {
			t.Fatalf("%v and %v", c, err)
		}
		if err != nil {
			return
		}
		if len(c.Sources()) == 0 || c.PIN.Consecutive == 0 || c.PIN.Consecutive > 10 || c.Socket.FileMode()&0o600 != 0o600 ||
			time.Duration(c.Token.Timeout) <= 0 || !filepath.IsAbs(c.Store.Path) || c.Store.Path == c.Audit.Path {
			t.Fatalf("accepted: %+v", c)
		}
	})
}
