// Package hsmtest gives a test a fresh SoftHSM token, a token that fails on
// command, and the contract that every token must keep.
//
// A PKCS#11 module is initialised once per process and SoftHSM reads
// SOFTHSM2_CONF from the environment when that happens. So one Instance exists
// in a process at a time: New waits until the one before is cleaned up, and tests
// that call t.Parallel run one after the other.
package hsmtest
