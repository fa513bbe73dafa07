// Package kmstest is an endpoint for tests and demonstrations that behaves like
// AWS KMS as far as GenerateRandom goes: AWS JSON 1.1 over HTTP, Signature
// Version 4 verified by its own implementation, real random bytes, and faults
// on demand. It listens on this host only and is no part of the daemon.
//
// Each [Server] has credentials of its own making; a client gets them the way
// the SDK's default chain finds them, through [Server.Env] or [Server.Setenv].
//
// # Faults
//
// Each scripted behaviour, such as [Server.Throttle], answers the given number
// of the next requests, or all from then on if that is [Always]. Behaviours
// queue up in the order of the calls; after the last one the server is honest
// again. Requests that fail authentication or validation use up nothing.
package kmstest
