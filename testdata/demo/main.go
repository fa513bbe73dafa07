// Command demo runs sigild's main job on a throw-away host: a new SoftHSM
// token, a new swtpm and a KMS endpoint on the loopback, all in a temporary
// folder. With -dev it leaves the installation running for developers.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/sigild/sigild/daemon/daemontest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	sigild := flag.String("sigild", "bin/sigild", "the daemon")
	sigilctl := flag.String("sigilctl", "bin/sigilctl", "the client")
	dev := flag.Bool("dev", false, "leave the installation running until interrupted")
	flag.Parse()
	dir, err := os.MkdirTemp("", "sigild-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	paths, err := absolute(*sigild, *sigilctl)
	if err != nil {
		return err
	}
	host, err := daemontest.New(ctx, daemontest.Options{Sigild: paths[:1], Dir: dir, Dev: true, Progress: indent})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	s := &stage{host: host, sigilctl: paths[1]}
	if *dev {
		return s.develop(ctx)
	}
	return s.play(ctx)
}

func absolute(names ...string) ([]string, error) {
	var paths []string
	for _, n := range names {
		p, err := filepath.Abs(n)
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(p); err != nil {
			return nil, fmt.Errorf("%w: run `make build` first", err)
		}
		paths = append(paths, p)
	}
	return paths, nil
}

func indent(line string) { fmt.Println("  " + line) }
