package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	_ "time/tzdata" // the scripts set TZ, also on a host without time zones

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/sigild/sigild/cmd/internal/ask/asktest"
	main "github.com/sigild/sigild/cmd/sigilctl"
	"github.com/sigild/sigild/daemon/channel"
	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

// noRaceSleep spares each run of the program the second that the race detector
// waits for further reports at its end.
const noRaceSleep = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sigilctl": main.Main})
}

// TestScripts runs the conversations in testdata. Each has a daemon of its own
// at $SOCKET, a real server whose answers are the files daemon/METHOD.json of
// the script: a stream of
//
//	{"result": …}   {"error": …}   {"hang": true}   {"lost": true}   {"interrupt": true}
//
// one for each call; the last one stays. The last three never answer, break the
// connection, and send the program SIGINT. A result may have {"exports": KEY} beside
// it: that private key is sealed into it. The parameters of the calls are kept in
// requests/METHOD-N.json. With a file daemon/refuse nobody may connect.
//
// UPDATE_SCRIPTS=1 rewrites the expected texts.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup:               setup,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "terminal": terminal},
		Condition: func(name string) (bool, error) {
			if name != "root" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			return os.Geteuid() == 0, nil
		},
	})
}

// setup starts the script's daemon.
func setup(env *testscript.Env) error {
	t, ok := env.T().(testing.TB)
	if !ok {
		return errors.New("the script's T is not a testing.TB")
	}
	d := &scripted{dir: env.WorkDir, calls: map[string]int{}, channel: ipctest.NewChannel(t)}
	methods, err := d.methods()
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(env.WorkDir, "requests"), 0o755); err != nil {
		return err
	}
	_, refuse := os.Stat(filepath.Join(env.WorkDir, "daemon", "refuse"))
	ctx, cancel := context.WithCancel(t.Context())
	ln, err := ipc.Listen(filepath.Join(ipctest.Directory(t), "s"), 0o600, -1)
	if err != nil {
		cancel()
		return err
	}
	d.Listener = ln
	server := ipc.NewServer(ipc.Options{Methods: methods, Allow: func(ipc.Peer) bool { return refuse != nil }})
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, d) }()
	env.Defer(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	env.Values[testingKey{}] = t
	env.Vars = append(env.Vars, "SOCKET="+ln.Addr().String(), "TZ=UTC", noRaceSleep,
		"IDENTITY="+ipc.Hex(d.channel.Identity).String(), "SIGIL_IDENTITY="+ipc.Hex(d.channel.Identity).String(),
		"OTHER="+ipc.Hex(ipctest.NewChannel(t).Identity).String(), "XDG_CONFIG_HOME="+filepath.Join(env.WorkDir, "config"))
	return nil
}

// scripted answers calls from the files of one script.
type scripted struct {
	net.Listener
	dir string

	// channel opens the PINs, which requests/METHOD-N.json then shows.
	channel *ipctest.Channel

	mu    sync.Mutex
	calls map[string]int
	conns []net.Conn
}

// Accept keeps the connection, so that it can break.
func (d *scripted) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.conns = append(d.conns, conn)
	}
	return conn, err
}

// crash breaks all connections, as the end of the daemon would.
func (d *scripted) crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, conn := range d.conns {
		_ = conn.Close()
	}
}

type answer struct {
	Result    json.RawMessage `json:"result"`
	Exports   ipc.Hex         `json:"exports"`
	Error     *ipc.Error      `json:"error"`
	Hang      bool            `json:"hang"`
	Lost      bool            `json:"lost"`
	Interrupt bool            `json:"interrupt"`
}

func (d *scripted) methods() (map[string]ipc.Handler, error) {
	files, err := filepath.Glob(filepath.Join(d.dir, "daemon", "*.json"))
	if err != nil {
		return nil, err
	}
	methods := map[string]ipc.Handler{ipc.MethodPinKey: d.channel.PinKey, ipc.MethodStatus: d.status}
	for _, file := range files {
		answers, err := readAnswers(file)
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		methods[name] = d.channel.Open(name, func(ctx context.Context, params json.RawMessage) (any, error) {
			return d.answer(ctx, name, params, answers)
		})
	}
	return methods, nil
}

// status shows the identity key, in scripts without an answer of their own.
func (d *scripted) status(context.Context, json.RawMessage) (any, error) {
	return ipc.StatusResult{Installation: ipc.Hex{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff},
		IdentityKey: d.channel.Identity}, nil
}

func readAnswers(file string) (answers []answer, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	in := json.NewDecoder(bytes.NewReader(text))
	for {
		var a answer
		switch err := in.Decode(&a); {
		case errors.Is(err, io.EOF) && len(answers) > 0:
			return answers, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		answers = append(answers, a)
	}
}

func (d *scripted) answer(ctx context.Context, method string, params json.RawMessage, answers []answer) (any, error) {
	d.mu.Lock()
	n := d.calls[method]
	d.calls[method]++
	d.mu.Unlock()
	file := filepath.Join(d.dir, "requests", fmt.Sprintf("%s-%d.json", method, n+1))
	if err := os.WriteFile(file, append(bytes.Clone(params), '\n'), 0o600); err != nil {
		return nil, err
	}
	a := answers[min(n, len(answers)-1)]
	if a.Lost {
		d.crash()
	}
	if peer, _ := ipc.PeerFrom(ctx); a.Interrupt {
		if err := unix.Kill(int(peer.PID), unix.SIGINT); err != nil {
			return nil, err
		}
	}
	switch {
	case a.Lost, a.Interrupt, a.Hang:
		<-ctx.Done()
		return nil, ctx.Err()
	case a.Error != nil:
		return nil, a.Error
	case a.Exports != nil:
		return d.export(params, a)
	}
	return a.Result, nil
}

// export seals a private key as the daemon does.
func (d *scripted) export(params json.RawMessage, a answer) (*ipc.ExportAccountResult, error) {
	var list []json.RawMessage
	var p ipc.ExportAccountParams
	var r ipc.ExportAccountResult
	var address ipc.Hex
	if err := errors.Join(json.Unmarshal(params, &list), json.Unmarshal(list[0], &p), json.Unmarshal(a.Result, &r),
		address.UnmarshalText([]byte(r.Address))); err != nil {
		return nil, err
	}
	digest, err := channel.Digest(list[0])
	if err != nil {
		return nil, err
	}
	e := channel.Export{Installation: d.channel.Installation, Wallet: channel.ID(r.WalletID), Account: r.Account,
		Address: [20]byte(address), Digest: digest}
	s, err := e.Seal(p.Recipient, (*[channel.KeySize]byte)(a.Exports))
	if err != nil {
		return nil, err
	}
	r.Key = ipc.SealedKey{Enc: s.Enc, Ciphertext: s.Ciphertext}
	return &r, nil
}

// exits runs a command and compares its exit code: exits CODE COMMAND ARG…
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARG…")
	}
	code := 0
	err := ts.Exec(args[1], args[2:]...)
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		code = ended.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s\nstderr:\n%s", code, args[0], ts.ReadFile("stderr"))
	}
}

// terminal runs a command on a terminal: terminal CODE FILE COMMAND ARG… The
// lines of FILE are "expect TEXT" and "type TEXT" ("type ^C" is Ctrl-C). What the
// terminal showed is then in the file "screen".
func terminal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: terminal CODE FILE COMMAND ARG…")
	}
	program := lookPath(ts, args[2])
	cmd := exec.Command(program, args[3:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "PATH="+ts.Getenv("PATH"), "SOCKET="+ts.Getenv("SOCKET"), "TZ=UTC", noRaceSleep,
		"SIGIL_IDENTITY="+ts.Getenv("SIGIL_IDENTITY"))
	code, screen := converse(ts.Value(testingKey{}).(testing.TB), cmd, ts.ReadFile(args[1]))
	screen = strings.ReplaceAll(screen, "\r\n", "\n")
	ts.Check(os.WriteFile(ts.MkAbs("screen"), []byte(screen), 0o600))
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s, screen:\n%s", code, args[0], screen)
	}
}

// lookPath finds a program in the script's own PATH, where sigilctl is.
func lookPath(ts *testscript.TestScript, name string) string {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			return file
		}
	}
	ts.Fatalf("there is no program %s", name)
	return ""
}

// testingKey is where a script keeps its testing.TB.
type testingKey struct{}

func converse(t testing.TB, cmd *exec.Cmd, conversation string) (code int, screen string) {
	term := asktest.Start(t, cmd)
	for line := range strings.Lines(conversation) {
		verb, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch {
		case verb == "expect":
			term.Expect(text)
		case verb == "type" && text == "^C":
			term.Send("\x03")
		case verb == "type":
			term.Send(text + "\r")
		default:
			t.Fatalf("%q is neither expect nor type", line)
		}
	}
	return term.Wait()
}

// A folder without scripts, or one that lost some, would pass for a success.
func TestScriptsAreThere(t *testing.T) {
	for _, name := range []string{"status", "create", "terminal", "show", "list", "derive", "sign_tx", "describe", "sign_message", "unavailable", "refused", "usage", "trust",
		"freeze", "update", "delete", "pin", "policy", "unlock", "payloads", "receipt", "filter", "manual", "import", "export"} {
		if _, err := os.Stat(filepath.Join("testdata", name+".txtar")); errors.Is(err, fs.ErrNotExist) {
			t.Errorf("testdata/%s.txtar is missing", name)
		}
	}
}
