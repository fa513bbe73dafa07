// Package wallet is the service: it makes wallets out of mixed entropy, derives
// accounts, opens records with a PIN and signs. It knows neither sockets nor
// PKCS#11 nor the TPM: it declares the few operations it needs as interfaces.
//
// The private key of an account exists nowhere. It is d = t·d_h mod n, where
// d_h is a root that the token generated and never gives out, and t is a tweak
// that the token computes by HMAC from the wallet's derivation key K, which is
// made of the mixed entropy. To sign a digest z the token signs z·t⁻¹ with d_h,
// and the service multiplies the answer's s by t: (z·t⁻¹ + r·d_h)·t = z + r·d.
//
// Order of a signature: peer and owner, frozen, policy, charge, PIN, token,
// verification, repeated r, audit, answer. The zero value of every decision is
// "no".
package wallet
