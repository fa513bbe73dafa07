//go:build tools

// Package geth pins the go-ethereum node that the tests run.
package geth

import _ "github.com/ethereum/go-ethereum/cmd/geth"
