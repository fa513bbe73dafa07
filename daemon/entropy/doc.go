// Package entropy makes the seed of a wallet out of several independent
// sources of randomness: AWS KMS, the TPM and the PKCS#11 token.
//
// A [Source] answers with a [Reading]: secret bytes and their [Provenance]. The
// [Mixer] reads every source at the same time, checks each answer, remembers
// the digest of each durably, and runs all of them through HKDF-SHA-512
// ([Mix]). The result is unpredictable as long as one single source is. Nothing
// is optional: a source that fails, answers short, repeats itself or answers
// with a pattern stops the creation with a [*SourceError] that names it.
//
// The checks catch broken sources, not malicious ones: a source that lies
// skilfully cannot be told from a good one, which is why there are several.
//
// # Secrets in memory
//
// Every buffer that this package makes or is handed is overwritten before it
// returns, on success and on failure. Copies that it cannot reach remain until
// they are overwritten by later use: the receive buffers of crypto/tls,
// net/http and the AWS SDK hold the last KMS answer, and crypto/hmac holds its
// key pads. The KMS answer alone says nothing about a seed.
package entropy
