package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/cmd/internal/ask"
	"github.com/sigild/sigild/daemon"
)

func newProbe() *cobra.Command {
	c := &cobra.Command{
		Use:   "probe MODULE",
		Short: "Show which of the abilities that sigild needs a PKCS#11 token has",
		Long: "Tries each ability with session objects only; nothing is left on the token.\n" +
			"Without a PIN only what the token says of its mechanisms is shown.",
		Args: cobra.ExactArgs(1),
	}
	fd := pinFlag(c)
	label := c.Flags().String("label", "", "label of the token")
	serial := c.Flags().String("serial", "", "serial number of the token")
	login := c.Flags().Bool("login", false, "ask for the user PIN and try each ability")
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		source := ask.Source{FD: *fd}
		o := daemon.ProbeOptions{Module: args[0], Label: *label, Serial: *serial}
		if *login || *fd >= 0 {
			o.Ask = source.Secret
		}
		report, err := daemon.Probe(c.Context(), o)
		if err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(c.OutOrStdout()).Encode(report)
		}
		return printProbe(c, report)
	}
	return c
}

func printProbe(c *cobra.Command, r *daemon.ProbeReport) error {
	out := c.OutOrStdout()
	fmt.Fprintf(out, "token: %s %s, serial %s, firmware %s\n", r.Manufacturer, r.Model, r.Serial, r.Firmware)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, a := range r.Abilities {
		fmt.Fprintf(w, "%s\t%s\t%s\n", a.Name, a.Result, a.Detail)
	}
	return w.Flush()
}
