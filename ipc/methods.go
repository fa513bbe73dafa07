package ipc

import "context"

// Status calls sigild_status.
func (c *Client) Status(ctx context.Context) (*StatusResult, error) {
	return invoke[StatusResult](ctx, c, MethodStatus, StatusParams{})
}

// CreateWallet calls sigild_createWallet. The caller wipes the PIN.
func (c *Client) CreateWallet(ctx context.Context, p CreateWalletParams) (*CreateWalletResult, error) {
	return invoke[CreateWalletResult](ctx, c, MethodCreateWallet, p)
}

// GetWallet calls sigild_getWallet.
func (c *Client) GetWallet(ctx context.Context, p GetWalletParams) (*WalletInfo, error) {
	return invoke[WalletInfo](ctx, c, MethodGetWallet, p)
}

// ListWallets calls sigild_listWallets for one page. Only a page without a cursor is
// the last one, however few wallets it has.
func (c *Client) ListWallets(ctx context.Context, p ListWalletsParams) (*ListWalletsResult, error) {
	return invoke[ListWalletsResult](ctx, c, MethodListWallets, p)
}

// DeriveAccount calls sigild_deriveAccount. The caller wipes the PIN.
func (c *Client) DeriveAccount(ctx context.Context, p DeriveAccountParams) (*DeriveAccountResult, error) {
	return invoke[DeriveAccountResult](ctx, c, MethodDeriveAccount, p)
}

// SignTransaction calls sigild_signTransaction. The caller wipes the PIN.
func (c *Client) SignTransaction(ctx context.Context, p SignTransactionParams) (*SignTransactionResult, error) {
	return invoke[SignTransactionResult](ctx, c, MethodSignTransaction, p)
}

// SignMessage calls sigild_signMessage. The caller wipes the PIN.
func (c *Client) SignMessage(ctx context.Context, p SignMessageParams) (*SignMessageResult, error) {
	return invoke[SignMessageResult](ctx, c, MethodSignMessage, p)
}

// invoke returns nil with every error.
func invoke[Result any](ctx context.Context, c *Client, method string, params any) (*Result, error) {
	var out Result
	if err := c.Call(ctx, method, params, &out); err != nil {
		return nil, err
	}
	return &out, nil
}
