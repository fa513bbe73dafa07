package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/daemon"
)

func newCompact() *cobra.Command {
	return &cobra.Command{
		Use:   "compact",
		Short: "Give back the space that the database does not use any more",
		Long: "Rewrites the database without the space that deleted and replaced values left behind. The daemon\n" +
			"must be stopped: a database that is in use is refused and not touched. No device is needed. The file\n" +
			"is replaced as a whole once the new one is on disk and was compared with it; there must be room for both.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := load(c)
			if err != nil {
				return err
			}
			before, after, err := daemon.Compact(cfg)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %d bytes before, %d bytes now\n", cfg.Store.Path, before, after)
			return err
		},
	}
}
