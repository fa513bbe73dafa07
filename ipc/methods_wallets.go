package ipc

import (
	"context"
	"fmt"
)

// UpdateWallet calls sigild_updateWallet.
func (c *Client) UpdateWallet(ctx context.Context, p UpdateWalletParams) (*WalletInfo, error) {
	return invoke[WalletInfo](ctx, c, MethodUpdateWallet, p)
}

// LabelAccount calls sigild_labelAccount.
func (c *Client) LabelAccount(ctx context.Context, p LabelAccountParams) (*WalletInfo, error) {
	return invoke[WalletInfo](ctx, c, MethodLabelAccount, p)
}

// FreezeWallet calls sigild_freezeWallet.
func (c *Client) FreezeWallet(ctx context.Context, p WalletParams) (*WalletInfo, error) {
	return invoke[WalletInfo](ctx, c, MethodFreezeWallet, p)
}

// UnfreezeWallet calls sigild_unfreezeWallet.
func (c *Client) UnfreezeWallet(ctx context.Context, p UnfreezeParams) (*WalletInfo, error) {
	return invoke[WalletInfo](ctx, c, MethodUnfreezeWallet, p)
}

// GiveBackAttempts calls sigild_giveBackAttempts.
func (c *Client) GiveBackAttempts(ctx context.Context, p GiveBackParams) (*WalletInfo, error) {
	return invoke[WalletInfo](ctx, c, MethodGiveBackAttempts, p)
}

// FreezeAll calls sigild_freezeAll until no wallet is left, and returns the
// sums. After an error it can be repeated.
func (c *Client) FreezeAll(ctx context.Context) (*FreezeAllResult, error) {
	var all FreezeAllResult
	for cursor := ""; ; {
		r, err := invoke[FreezeAllResult](ctx, c, MethodFreezeAll, FreezeAllParams{Cursor: cursor})
		if err != nil {
			return nil, err
		}
		all.Wallets, all.Corrupt = all.Wallets+r.Wallets, all.Corrupt+r.Corrupt
		if r.Cursor == "" {
			return &all, nil
		}
		if r.Cursor == cursor {
			return nil, fmt.Errorf("%w: sigild_freezeAll does not go on", ErrProtocol)
		}
		cursor = r.Cursor
	}
}

// DeleteWallet calls sigild_deleteWallet. The caller wipes the PIN.
func (c *Client) DeleteWallet(ctx context.Context, p DeleteWalletParams) (*ChangedWalletResult, error) {
	return invoke[ChangedWalletResult](ctx, c, MethodDeleteWallet, p)
}

// RestoreWallet calls sigild_restoreWallet.
func (c *Client) RestoreWallet(ctx context.Context, p WalletParams) (*WalletInfo, error) {
	return invoke[WalletInfo](ctx, c, MethodRestoreWallet, p)
}

// ChangePIN calls sigild_changePin. The caller wipes the PINs.
func (c *Client) ChangePIN(ctx context.Context, p ChangePINParams) (*ChangedWalletResult, error) {
	return invoke[ChangedWalletResult](ctx, c, MethodChangePIN, p)
}

// SetPolicy calls sigild_setPolicy. The caller wipes the PIN.
func (c *Client) SetPolicy(ctx context.Context, p SetPolicyParams) (*ChangedWalletResult, error) {
	return invoke[ChangedWalletResult](ctx, c, MethodSetPolicy, p)
}

// Unlock calls sigild_unlock. The caller wipes the PIN.
func (c *Client) Unlock(ctx context.Context, p UnlockParams) (*UnlockResult, error) {
	return invoke[UnlockResult](ctx, c, MethodUnlock, p)
}

// Lock calls sigild_lock.
func (c *Client) Lock(ctx context.Context, p WalletParams) (*LockResult, error) {
	return invoke[LockResult](ctx, c, MethodLock, p)
}

// LockAll calls sigild_lockAll.
func (c *Client) LockAll(ctx context.Context) (*CountResult, error) {
	return invoke[CountResult](ctx, c, MethodLockAll, NoParams{})
}

// SignTypedData calls sigild_signTypedData. The caller wipes the PIN.
func (c *Client) SignTypedData(ctx context.Context, p SignPayloadParams) (*SignPayloadResult, error) {
	return invoke[SignPayloadResult](ctx, c, MethodSignTypedData, p)
}

// SignAuthorization calls sigild_signAuthorization. The caller wipes the PIN.
func (c *Client) SignAuthorization(ctx context.Context, p SignPayloadParams) (*SignPayloadResult, error) {
	return invoke[SignPayloadResult](ctx, c, MethodSignAuthorization, p)
}

// SignUserOperation calls sigild_signUserOperation. The caller wipes the PIN.
func (c *Client) SignUserOperation(ctx context.Context, p SignPayloadParams) (*SignPayloadResult, error) {
	return invoke[SignPayloadResult](ctx, c, MethodSignUserOperation, p)
}

// SignDigest calls sigild_signDigest. The caller wipes the PIN.
func (c *Client) SignDigest(ctx context.Context, p SignDigestParams) (*SignPayloadResult, error) {
	return invoke[SignPayloadResult](ctx, c, MethodSignDigest, p)
}

// SignBatch calls sigild_signBatch. The caller wipes the PIN.
func (c *Client) SignBatch(ctx context.Context, p SignBatchParams) (*SignBatchResult, error) {
	return invoke[SignBatchResult](ctx, c, MethodSignBatch, p)
}
