package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sigild/sigild/ipc/ipctest"
)

// documentBlock is one fenced block of docs/integrate.md that is run.
var documentBlock = regexp.MustCompile("(?ms)^```(sh|go|js)\n(.*?)^```$")

// documentSocket is where the page's programs expect the daemon.
const documentSocket = "'/run/sigild/sigild.sock'"

// TestIntegrateDocument runs docs/integrate.md: `make dev`, the commands that run
// the two examples, and the page's own Go and JavaScript, put into one program
// each.
func TestIntegrateDocument(t *testing.T) {
	if !ipctest.Node(t) {
		return
	}
	text, err := os.ReadFile("../../docs/integrate.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string][]string{}
	for _, b := range documentBlock.FindAllStringSubmatch(string(text), -1) {
		blocks[b[1]] = append(blocks[b[1]], b[2])
	}
	if len(blocks["sh"]) != 2 || len(blocks["go"]) != 4 || len(blocks["js"]) != 1 {
		t.Fatalf("blocks: %d sh, %d go, %d js", len(blocks["sh"]), len(blocks["go"]), len(blocks["js"]))
	}
	socket, key := developed(t, blocks["sh"][0])
	pins := typed
	for n, line := range strings.Split(strings.TrimSpace(blocks["sh"][1]), "\n") {
		command := strings.NewReplacer("SOCKET", socket, "KEY", key).Replace(line)
		said := playedIn(t, "../..", pins, []string{"sh", "-euc", command})
		if n == 0 {
			checkExample(t, said)
		} else {
			mustContain(t, said, "existed true", "PIN changed")
		}
		pins = strings.ReplaceAll(typed, rightPIN, "591823") // as the first has left it
	}
	program := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(program, []byte(documentProgram(blocks["go"])), 0o600); err != nil {
		t.Fatal(err)
	}
	said := playedIn(t, "../..", "", []string{"go", "run", program, socket, key, "591823"})
	mustContain(t, said, "existing true", "signed once more", "then unlockRequired")
	script := `import { createConnection } from 'node:net'
import { createInterface } from 'node:readline/promises'
const deliver = answer => { console.log('state', answer.result.state); socket.end() }
` + strings.ReplaceAll(blocks["js"][0], documentSocket, "process.argv[2]")
	mustContain(t, playedIn(t, "../..", script, []string{"node", "--input-type=module", "-", socket}), "state ready")
}

// documentProgram puts the page's Go between what it takes as given.
func documentProgram(blocks []string) string {
	dial := strings.ReplaceAll(blocks[0], `"/run/sigild/sigild.sock"`, "os.Args[1]")
	return `package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/sigild/sigild/ipc"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	ctx := context.Background()
	var identityKey ipc.Hex
	check(identityKey.UnmarshalText([]byte(os.Args[2])))
	pin, message := ipc.Secret(os.Args[3]), ipc.Hex("hello")
	transaction := json.RawMessage(` + "`" + transfer + "`" + `)
` + dial + "check(err)\n" + blocks[1] + "check(err)\nwallet := made.Wallet.WalletID\n" + blocks[2] + "check(err)\n" + blocks[3] + `
	fmt.Println("existing", made.Existing, "raw", signed.Raw)
	again := ipc.SignMessageParams{WalletID: wallet, Message: message}
	_, err = client.SignMessage(ctx, again) // the second of the unlock's two
	check(err)
	fmt.Println("signed once more")
	_, err = client.SignMessage(ctx, again)
	fmt.Println("then", ipc.ReasonOf(err))
}
`
}

// developed runs make dev until the test ends, and gives what it prints.
func developed(t *testing.T, command string) (socket, key string) {
	t.Helper()
	cmd := exec.Command("sh", "-euc", command)
	said := new(bytes.Buffer)
	cmd.Dir, cmd.Stderr = "../..", said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) // as Ctrl-C does, to all of them
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", command, said)
		}
	})
	stop := time.AfterFunc(patience, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) })
	defer stop.Stop()
	lines := bufio.NewScanner(out)
	for (socket == "" || key == "") && lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		switch name {
		case "socket":
			socket = strings.TrimSpace(value)
		case "identity key":
			key = strings.TrimSpace(value)
		}
	}
	if key == "" {
		t.Fatalf("make dev did not print the socket and the key: %v", lines.Err())
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return socket, key
}

// playedIn is played in a folder.
func playedIn(t *testing.T, dir, input string, command []string) string {
	t.Helper()
	cmd := exec.CommandContext(testContext(t), command[0], command[1:]...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", command, err, out)
	}
	return string(out)
}
