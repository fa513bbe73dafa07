package main

import (
	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

func (a *app) updateCommand() *cobra.Command {
	var label, externalID string
	var tags []string
	var noTags bool
	c := &cobra.Command{
		Use:     "update WALLET|ADDRESS",
		Short:   "Change a wallet's label, tags or external id",
		Example: "  sigilctl wallet update 0x5290…2ba9 --label savings --tag vip --tag eu\n  sigilctl wallet update 0x5290…2ba9 --external-id '' --no-tags",
		Args:    arguments("WALLET|ADDRESS"),
	}
	c.Flags().StringVar(&label, "label", "", "the new label; '' removes it")
	c.Flags().StringVar(&externalID, "external-id", "", "the new external id; '' removes it")
	c.Flags().StringArrayVar(&tags, "tag", nil, "a `TAG`, in place of all tags so far; may be repeated")
	c.Flags().BoolVar(&noTags, "no-tags", false, "remove all tags")
	a.walletCommand(c, ipc.MethodUpdateWallet, func(id ipc.Hex) any {
		p := ipc.UpdateWalletParams{WalletID: id}
		if c.Flags().Changed("label") {
			p.Label = &label
		}
		if c.Flags().Changed("external-id") {
			p.ExternalID = &externalID
		}
		if noTags {
			tags = []string{}
		}
		if tags != nil {
			p.Tags = &tags
		}
		return p
	})
	c.PreRunE = func(c *cobra.Command, _ []string) error {
		if noTags && tags != nil {
			return usage(c, "--tag and --no-tags contradict each other")
		}
		for _, name := range []string{"label", "external-id", "tag", "no-tags"} {
			if c.Flags().Changed(name) {
				return nil
			}
		}
		return usage(c, "nothing to change: give --label, --external-id, --tag or --no-tags")
	}
	return c
}
