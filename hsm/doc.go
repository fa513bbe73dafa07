// Package hsm is sigild's side of a PKCS#11 v2.40 token: it finds the token,
// logs in once, keeps a bounded set of sessions, owns the long-lived keys of an
// installation, and makes, wraps, unwraps and uses the keys of wallets.
//
// Three layers, from the bottom:
//
//   - Token is a module, a slot and its sessions. Every call into the module
//     runs on one of a fixed number of sessions, so that the number of threads
//     blocked in it is bounded, and a caller never waits longer than its
//     context, even when the module does not answer.
//   - Keys are the long-lived keys of one installation and generation, found by
//     CKA_ID and checked before use.
//   - Object is a session object, such as an unwrapped wallet key. It lives in
//     one session and is lost with it (ErrObjectLost).
//
// Signing and HMAC run on "signing" sessions, which own nothing and are closed
// on the slightest doubt. Session objects are made on "keeper" sessions, which
// are closed only when they are really broken, because everything that they own
// goes with them.
//
// Secrets cross into the module only through C memory that is wiped before it
// is freed. Errors never carry one.
//
// Tokens, keys and objects are safe for concurrent use.
package hsm
