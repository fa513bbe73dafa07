package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/cmd/internal/ask"
	"github.com/sigild/sigild/daemon"
)

// errUnhealthy ends a check that found something; the report said what.
var errUnhealthy = errors.New("the check found something: see above")

func newCheck() *cobra.Command {
	c := &cobra.Command{
		Use:   "check",
		Short: "Compare the database with the TPM's counter and verify every wallet",
		Long: "Needs the daemon to be stopped. Says whether this database is the latest, and which wallets were changed\n" +
			"outside the daemon.\n\n" +
			"With --accept a database that is not the latest, such as a backup, is declared to be: wrong PINs, PIN\n" +
			"changes, freezes and deletions since that copy are lost, a PIN that was changed is the old one again, and\n" +
			"every wallet keeps at most 3 attempts until its next right PIN. The audit log records it. It also\n" +
			"acknowledges starts after a power cut, and anchors the database in a TPM that was cleared or replaced.",
		Args: cobra.NoArgs,
	}
	fd := pinFlag(c)
	accept := c.Flags().Bool("accept", false, "declare this database to be the latest, and acknowledge power cuts")
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := load(c)
		if err != nil {
			return err
		}
		source := ask.Source{FD: *fd}
		r, err := daemon.Check(c.Context(), cfg, daemon.CheckOptions{Accept: *accept, Options: daemon.Options{
			Ask: source.Secret, Version: version, Logger: daemon.NewLogger(c.ErrOrStderr(), cfg.Log)}})
		if err != nil {
			return err
		}
		if err := printCheck(c, r, *asJSON); err != nil {
			return err
		}
		if !r.Healthy() {
			return errUnhealthy
		}
		return nil
	}
	return c
}

func printCheck(c *cobra.Command, r *daemon.CheckReport, asJSON bool) error {
	out := c.OutOrStdout()
	if asJSON {
		return json.NewEncoder(out).Encode(r)
	}
	verdict := "this database is the latest"
	if r.Refused != "" {
		verdict = "NOT SERVED: " + r.Refused
	}
	if r.Accepted {
		verdict = "accepted as the latest"
	}
	fmt.Fprintf(out, "installation    %s\nverdict         %s\nanchor          %s, database %d, TPM %d\n", r.Installation, verdict, r.Mode, r.Database, r.TPM)
	fmt.Fprintf(out, "steps           %d, epoch %d\nunclean starts  %d since the last acknowledgement\nwallets         %d verified", r.Step, r.Epoch, r.Unclean, r.Wallets)
	if len(r.Bad) > 0 {
		fmt.Fprintf(out, ", %d changed outside the daemon and locked:\n                %s", len(r.Bad), strings.Join(r.Bad, "\n                "))
	}
	_, err := fmt.Fprintln(out)
	return err
}
