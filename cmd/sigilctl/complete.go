package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

const (
	// completionTimeout is how long a person waits for the shell.
	completionTimeout = 2 * time.Second
	// completions is how many wallets a shell is offered.
	completions = 200
)

// completeWallet offers the wallets of this user for the first argument.
func (a *app) completeWallet(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(c.Context(), completionTimeout)
	defer cancel()
	var offered []string
	for _, w := range a.firstWallets(ctx, completions) {
		text := plain(joined(", ", w.State, w.Owner, w.Label))
		offered = append(offered, cobra.CompletionWithDesc(w.WalletID.String(), text))
	}
	return offered, cobra.ShellCompDirectiveNoFileComp
}

// firstWallets reads up to a number of wallets, over several pages where these end
// early, and gives what it has when that fails.
func (a *app) firstWallets(ctx context.Context, most int) (wallets []ipc.WalletInfo) {
	client, err := a.connect(ctx)
	if err != nil {
		return nil
	}
	defer client.Close()
	for p := (ipc.ListWalletsParams{Limit: most}); p.Limit > 0; p.Limit = most - len(wallets) {
		page, _, err := call[ipc.ListWalletsResult](ctx, a, client, ipc.MethodListWallets, p)
		if err != nil {
			return wallets
		}
		wallets = append(wallets, page.Wallets...)
		if p.Cursor = page.Cursor; p.Cursor == "" {
			return wallets
		}
	}
	return wallets
}

// completeWalletThenFile offers files for the second argument.
func (a *app) completeWalletThenFile(c *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 1 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.completeWallet(c, args, part)
}

// words offers the values of a flag.
func words(c *cobra.Command, flag string, values ...string) {
	err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // there is no such flag: this program is wrong
	}
}
