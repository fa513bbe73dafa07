package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

// maxSection is the most that one part of a bundle may hold.
const maxSection = 16 << 20

// section is one file of a support bundle.
type section struct {
	name string
	read func(context.Context) ([]byte, error)
}

func (a *app) bundleCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "support-bundle FILE",
		Short: "Write what a supporter needs into one .tar.gz: status, configuration, journal, metrics; no secrets",
		Long: "The bundle holds the daemon's status and metrics, its configuration without the value of token.pin, the state\n" +
			"and the journal of its unit, and what system it runs on. It has no PIN, no key, no database and no audit log.\n" +
			"The journal holds uids of relays, and the text of faults, which may name wallets. Comments of the configuration\n" +
			"and of the units, their environment and credentials are left out. Look into it before you send it.",
		Args: arguments("FILE"),
	}
	listen := c.Flags().String("metrics", defaultMetrics, "where the daemon's metrics are: unix:/path or tcp:HOST:PORT")
	config := c.Flags().String("config", "/etc/sigild/sigild.toml", "the daemon's configuration")
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.bundle(c.Context(), args[0], a.sections(*listen, *config))
	}
	return c
}

func (a *app) sections(listen, config string) []section {
	return []section{
		{"versions.txt", func(context.Context) ([]byte, error) { return []byte("sigilctl " + releaseVersion() + "\n"), nil }},
		{"status.json", a.statusSection},
		{"metrics.txt", func(ctx context.Context) ([]byte, error) { return fetchMetrics(ctx, listen) }},
		{"sigild.toml", func(context.Context) ([]byte, error) { return readConfig(config) }},
		{"unit.txt", unitState},
		{"unit-files.txt", unitFiles},
		{"journal.txt", program("journalctl", "--unit=sigild.service", "--lines=5000", "--no-pager", "--output=short-iso")},
		{"kernel.txt", program("uname", "-srvm")},
		{"os-release.txt", func(context.Context) ([]byte, error) { return readBounded("/etc/os-release") }},
		{"devices.txt", program("ls", "-l", "/dev/tpmrm0", "/run/sigild", "/var/lib/sigild")},
	}
}

func (a *app) statusSection(ctx context.Context) ([]byte, error) {
	_, raw, err := query[ipc.StatusResult](ctx, a, ipc.MethodStatus, ipc.StatusParams{})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = json.Indent(&out, raw, "", "  ")
	return out.Bytes(), err
}

// program runs a command whose output is the section.
func program(name string, args ...string) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
		if err != nil {
			out = fmt.Appendf(out, "%s: %v\n", name, err)
		}
		return out[:min(len(out), maxSection)], nil
	}
}

func unitState(ctx context.Context) ([]byte, error) {
	text, err := program("systemctl", "show", "--property="+strings.Join(unitProperties(), ","), "sigild.service", "sigild.socket")(ctx)
	return redactProperties(text), err
}

func unitFiles(ctx context.Context) ([]byte, error) {
	text, err := program("systemctl", "cat", "sigild.service", "sigild.socket")(ctx)
	return redactUnit(text), err
}

func readConfig(path string) ([]byte, error) {
	text, err := readBounded(path)
	return redactConfig(text), err
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSection))
}

// bundle writes a new file that only its owner can read. A section that cannot
// be had says why.
func (a *app) bundle(ctx context.Context, path string, sections []section) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fail(exitUsage, reasonUsage, "", "%s exists already", path)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	zipped := gzip.NewWriter(f)
	archive := tar.NewWriter(zipped)
	now := time.Now()
	for _, s := range sections {
		text, err := s.read(ctx)
		if err != nil {
			text = fmt.Appendf(text, "not there: %v\n", err)
		}
		header := &tar.Header{Name: "sigild-support/" + s.name, Mode: 0o600, Size: int64(len(text)), ModTime: now}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(text); err != nil {
			return err
		}
	}
	if err := errors.Join(archive.Close(), zipped.Close(), f.Sync()); err != nil {
		return err
	}
	raw, err := json.Marshal(map[string]string{"file": path})
	if err != nil {
		return err
	}
	return a.print(raw, func() string { return "wrote " + path + "; look into it before you send it\n" })
}
