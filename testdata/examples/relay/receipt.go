package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/gowebpki/jcs"

	"github.com/sigild/sigild/ipc"
)

// statement is what a receipt says.
type statement struct {
	Method        string  `json:"method"`
	RequestDigest ipc.Hex `json:"requestDigest"`
	WalletID      ipc.Hex `json:"walletId"`
	Address       ipc.Hex `json:"address"`
}

// verify checks that the pinned identity key signed the receipt, and that it is
// about these parameters, which hold no PIN here. It is kept, and can be shown
// to anybody later.
func verify(r *ipc.Receipt, identity ipc.Hex, params any) (*statement, error) {
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), identity)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte("sigild/receipt/v1\n" + r.Statement))
	if !ecdsa.VerifyASN1(key, digest[:], r.Signature) {
		return nil, errors.New("the receipt is not signed by the pinned identity key")
	}
	var s statement
	if err := json.Unmarshal([]byte(r.Statement), &s); err != nil {
		return nil, err
	}
	text, err := json.Marshal(params)
	if err != nil {
		return nil, err
	}
	canonical, err := jcs.Transform(text)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(canonical); !bytes.Equal(sum[:], s.RequestDigest) {
		return nil, fmt.Errorf("the receipt is about another request: %s", s.RequestDigest)
	}
	return &s, nil
}
