package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/cmd/internal/ask"
	"github.com/sigild/sigild/daemon"
)

func newRun() *cobra.Command {
	c := &cobra.Command{
		Use:   "run",
		Short: "Serve the installation until SIGTERM; SIGHUP reloads the configuration",
		Long: "Serves the installation until SIGTERM, which lets requests under way finish; a second one ends it at once.\n\n" +
			"SIGHUP reads the configuration anew. The log's level, who may connect (socket.allow), who is an operator,\n" +
			"who may send plain PINs and the grace of deleted wallets change at once; the log names every other key\n" +
			"that was changed and needs a restart. A configuration with a fault changes nothing.",
		Args: cobra.NoArgs,
	}
	fd := pinFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := load(c)
		if err != nil {
			return err
		}
		reload := make(chan os.Signal, 1)
		signal.Notify(reload, syscall.SIGHUP)
		defer signal.Stop(reload)
		path, err := c.Flags().GetString("config")
		if err != nil {
			return err
		}
		source := ask.Source{FD: *fd}
		log, level := daemon.NewLeveledLogger(c.ErrOrStderr(), cfg.Log)
		return daemon.Run(c.Context(), cfg, daemon.Options{Ask: source.Secret, Version: version, Logger: log, Level: level, ConfigPath: path,
			Reload: reload, Load: func() (*daemon.Config, error) { return load(c) }})
	}
	return c
}

func newCheckConfig() *cobra.Command {
	return &cobra.Command{
		Use:   "check-config",
		Short: "Read the configuration and say what is wrong with it; touches no device",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := load(c)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), "the configuration is sound")
			notePlace(c.OutOrStdout(), cfg)
			return nil
		},
	}
}

// notePlace says what keeps systemd's units from starting, which say it nowhere
// themselves.
func notePlace(out io.Writer, cfg *daemon.Config) {
	const place = "/var/lib/sigild/sigild.db"
	if cfg.Store.Path != place {
		fmt.Fprintf(out, "note: the packaged units start only where %s is there, and store.path is %s: "+
			"give both the drop-in store-path.conf\n", place, cfg.Store.Path)
	}
}

// load reads the configuration; a bad one must be mended before another start.
func load(c *cobra.Command) (*daemon.Config, error) {
	path, err := c.Flags().GetString("config")
	if err != nil {
		return nil, err
	}
	return daemon.LoadConfig(path)
}

// pinFlag adds the flag for a secret that a program gives instead of a person.
func pinFlag(c *cobra.Command) *int {
	return c.Flags().Int("pin-fd", -1, "read the token's user PIN from this file descriptor instead of asking")
}
