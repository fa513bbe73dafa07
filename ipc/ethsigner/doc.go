// Package ethsigner lets Go programs sign with an account that sigild keeps, by
// go-ethereum's own types: transactions of every kind, messages, typed data,
// authorizations, bind.TransactOpts for contract bindings, and a crypto.Signer.
//
// An Account signs by the unlock that this program, or its user, holds
// (sigilctl unlock, or ipc.Client.Unlock), or with the PIN that Account.PIN
// gives for each signature.
//
// Every answer is checked before it is returned: that it is a signature of this
// account over what was asked for, and nothing else.
//
// # Errors
//
// What sigild answered is an *ipc.Error, to be asked for by its reason; the
// errors of this package name the most frequent ones:
//
//	if errors.Is(err, ethsigner.ErrUnlockRequired) { … }
//
// A connection that was lost is made anew. A signature whose answer was lost is
// asked for once more, unless a PIN was given: that would be another check.
package ethsigner
