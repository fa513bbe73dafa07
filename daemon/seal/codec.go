package seal

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// ErrFormat is returned for bytes that are not one of this package's
// structures in its only valid encoding: RFC 8949 deterministic CBOR with
// known integer keys.
var ErrFormat = errors.New("not in the stored format")

// encoding is deterministic, so that a structure has exactly one encoding.
var encoding = must(cbor.CoreDetEncOptions().UserBufferEncMode())

// decoding refuses what a deterministic encoder never writes.
var decoding = must(cbor.DecOptions{
	DupMapKey:         cbor.DupMapKeyEnforcedAPF,
	IndefLength:       cbor.IndefLengthForbidden,
	TagsMd:            cbor.TagsForbidden,
	ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	MaxNestedLevels:   8,
	MaxArrayElements:  4096,
	MaxMapPairs:       64,
}.DecMode())

func must[T any](mode T, err error) T {
	if err != nil {
		panic("seal: CBOR options: " + err.Error())
	}
	return mode
}

func encode(v any) ([]byte, error) { return encoding.Marshal(v) }

// encodeSecret encodes without the library's shared buffers, which would keep a
// copy of v, in one allocation of at least size bytes, so that growing leaves
// none behind either. The caller wipes the result.
func encodeSecret(v any, size int) ([]byte, error) {
	var buf bytes.Buffer
	buf.Grow(size)
	if err := encoding.MarshalToBuffer(v, &buf); err != nil {
		clear(buf.Bytes())
		return nil, err
	}
	return buf.Bytes(), nil
}

// decode reads data into v and refuses it unless encoding v again gives the
// same bytes.
func decode(data []byte, v any) error {
	if err := decoding.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %v", ErrFormat, err)
	}
	again, err := encodeSecret(v, len(data))
	defer clear(again)
	if err != nil || !bytes.Equal(again, data) {
		return fmt.Errorf("%w: not in canonical form", ErrFormat)
	}
	return nil
}
