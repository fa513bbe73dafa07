package main

import (
	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

func (a *app) giveBackCommand() *cobra.Command {
	var attempts uint32
	c := a.walletCommand(&cobra.Command{
		Use:   "give-back WALLET|ADDRESS",
		Short: "Give PIN attempts back to a wallet and end its wait; for operators",
		Long: `Give PIN attempts back to a wallet that its user locked by wrong PINs, and end the
wait for the next one. Find out first who guessed: each attempt helps a thief as
well. At most 10 are given back at a time and 100 in a wallet's life, and the
audit log has each. The PIN itself stays; nobody can reset it.`,
		Example: "  sigilctl pin give-back 0x9858EfFD232B4033E47d90003D41EC34EcaEda94 --attempts 3",
		Args:    arguments("WALLET|ADDRESS"),
	}, ipc.MethodGiveBackAttempts, func(id ipc.Hex) any {
		return ipc.GiveBackParams{WalletID: id, Attempts: attempts}
	})
	c.Flags().Uint32Var(&attempts, "attempts", 3, "how many, 1 to 10")
	return c
}
