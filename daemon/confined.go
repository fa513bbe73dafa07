package daemon

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sigild/sigild/daemon/config"
	"github.com/sigild/sigild/daemon/confine"
	"github.com/sigild/sigild/ipc"
)

// confineProcess takes from this process what the configuration, which was read
// from path, does not need. It comes before anything else is opened: whatever is
// opened once is opened again when a device returns or the configuration is
// reloaded, and the module is confined from its first instruction.
func confineProcess(c *config.Config, path string) (confine.State, error) {
	if !c.Landlock.Enable {
		return confine.State{}, nil
	}
	state, err := confine.Apply(confinement(c, path))
	if errors.Is(err, confine.ErrPath) {
		return state, fmt.Errorf("%w: landlock.read, landlock.write: %w", ErrConfig, err)
	}
	return state, err
}

// confinement is what the configuration needs. What [landlock] names must be
// there; whatever else a host may have or lack.
func confinement(c *config.Config, path string) confine.Rules {
	l := c.Landlock
	r := confine.Rules{
		Read: slices.Concat(systemFiles(), secretFiles(c), l.Read),
		Write: slices.Concat([]string{filepath.Dir(c.Store.Path), filepath.Dir(c.Audit.Path), filepath.Dir(c.Socket.Path)},
			softHSMTokens(c.Token.Module), l.Write),
		// The node of a TPM is made anew when its driver returns, so the rule is
		// for its folder. The unit's DeviceAllow= names the one device.
		Devices:  []string{filepath.Dir(c.TPM.Device), "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"},
		Optional: func(p string) bool { return !slices.Contains(l.Read, p) && !slices.Contains(l.Write, p) },
	}
	r.Read = append(r.Read, filepath.Dir(c.Token.Module))
	if path != "" {
		r.Read = append(r.Read, filepath.Dir(path)) // an editor replaces the file
	}
	network, address := c.Metrics.Address()
	if network == "unix" {
		r.Write = append(r.Write, filepath.Dir(address))
	}
	if kind, _ := c.Token.PINSource(); kind == "prompt" {
		r.Terminals = []string{"/dev/tty"}
	}
	if c.WithoutNetwork() {
		r.TCP = ports(c)
	} else {
		r.Read = append(r.Read, networkFiles()...)
	}
	return r
}

// systemFiles are what the C library and modules read on any host: libraries,
// OpenSSL's and the vendor's configuration, users and groups; and the process's
// own numbers, for the metrics.
func systemFiles() []string {
	return []string{"/etc", "/usr", "/lib", "/lib64", "/proc/self"}
}

// secretFiles are where a PIN comes from again after the token was away.
func secretFiles(c *config.Config) []string {
	switch kind, name := c.Token.PINSource(); kind {
	case "file":
		return []string{filepath.Dir(name)}
	case "credential":
		return []string{os.Getenv("CREDENTIALS_DIRECTORY")}
	}
	return nil
}

// networkFiles are what name resolution, TLS and the credential chain of AWS
// read besides /etc and /usr. Files in them are replaced, so they are folders.
func networkFiles() []string {
	files := []string{"/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/run/connman",
		"/var/lib/ca-certificates", os.Getenv("SSL_CERT_DIR")}
	if home, err := os.UserHomeDir(); err == nil {
		files = append(files, filepath.Join(home, ".aws"))
	}
	for _, name := range []string{"SSL_CERT_FILE", "AWS_CA_BUNDLE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE",
		"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"} {
		if path := os.Getenv(name); path != "" && path != os.DevNull {
			files = append(files, filepath.Dir(path))
		}
	}
	return slices.DeleteFunc(files, func(f string) bool { return f == "" })
}

// softHSMTokens finds the folder of a SoftHSM's tokens where it says so itself:
// in the file that SOFTHSM2_CONF names, or else in the system's.
func softHSMTokens(module string) []string {
	path := os.Getenv("SOFTHSM2_CONF")
	switch {
	case path != "":
	case strings.Contains(filepath.Base(module), "softhsm"):
		path = "/etc/softhsm/softhsm2.conf"
	default:
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil // the module cannot read it either, and says so
	}
	defer file.Close()
	return tokenFolders(bufio.NewScanner(file))
}

func tokenFolders(lines *bufio.Scanner) (folders []string) {
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		if strings.TrimSpace(key) == "directories.tokendir" {
			folders = append(folders, strings.TrimSpace(value))
		}
	}
	return folders
}

// ports are those that a daemon without KMS needs.
func ports(c *config.Config) *confine.Ports {
	p := &confine.Ports{}
	for _, port := range c.Landlock.TCPConnect {
		p.Connect = append(p.Connect, uint16(port))
	}
	if network, address := c.Metrics.Address(); network == "tcp" {
		if _, text, err := net.SplitHostPort(address); err == nil {
			port, _ := strconv.ParseUint(text, 10, 16) // checked with the configuration
			p.Bind = append(p.Bind, uint16(port))
		}
	}
	return p
}

// landlockStatus says what is in force.
func (d *Daemon) landlockStatus() ipc.LandlockStatus {
	s := ipc.LandlockStatus{ABI: d.confined.ABI, Restricts: []string{}}
	for _, r := range []struct {
		what string
		is   bool
	}{{"files", d.confined.Files}, {"deviceControl", d.confined.IOCTL}, {"tcp", d.confined.TCP}} {
		if r.is {
			s.Restricts = append(s.Restricts, r.what)
		}
	}
	return s
}

// landlockNotes say why the process is not confined.
func (d *Daemon) landlockNotes() []string {
	switch {
	case d.confined.Files:
		return nil
	case !d.config.Landlock.Enable:
		return []string{"Landlock is turned off in the configuration (landlock.enable): a fault in the token's module can reach every file that this user can"}
	}
	return []string{"this kernel offers no Landlock (or the service may not use it): a fault in the token's module can reach every file that this user can"}
}
