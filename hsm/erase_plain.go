//go:build !goexperiment.runtimesecret

package hsm

func erase() {}
