//go:build !goexperiment.runtimesecret

package wipe

const enabled = false

// Do calls f.
func Do(f func()) { f() }
