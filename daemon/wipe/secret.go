//go:build goexperiment.runtimesecret

package wipe

import (
	"runtime"
	"runtime/secret"
)

const enabled = runtime.GOOS == "linux" && (runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64")

// Do calls f and erases what it used; see package runtime/secret.
func Do(f func()) { secret.Do(f) }
