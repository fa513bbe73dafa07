package eth

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

var (
	// ErrInvalidSignature is returned when r, s or the recovery id are out of
	// the range that Ethereum accepts: 0 < r < n, 0 < s <= n/2 (EIP-2), and a
	// recovery id of 0 or 1.
	ErrInvalidSignature = errors.New("eth: the signature is not a valid low-S secp256k1 signature with recovery id 0 or 1")

	// ErrWrongSigner is returned when a signature does not recover to the
	// address that was to sign, or when the payload names another sender.
	ErrWrongSigner = errors.New("eth: the signature is not by the expected address")
)

// FieldError says what is wrong with one field of a payload, in words that let
// the caller mend it. It never holds more than a short excerpt of the input.
type FieldError struct {
	// Field is the field's path from the payload's root, for example
	// "transaction.maxFeePerGas" or "typedData.message.to[3].wallet".
	Field string
	// Problem is what is wrong with it, as the rest of a sentence.
	Problem string
}

// Error returns "field: problem".
func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

const (
	// maxExcerpt bounds how much of a caller's own text an error repeats.
	maxExcerpt = 48 // bytes
	// maxPath bounds a field's path: of a longer one the outer part is kept.
	maxPath = 256 // bytes
)

// problem makes a FieldError whose path the callers of the failing function
// still have to add with at and atIndex.
func problem(format string, args ...any) error {
	return &FieldError{Problem: fmt.Sprintf(format, args...)}
}

// at puts name in front of the path of err.
func at(name string, err error) error {
	var field *FieldError
	if !errors.As(err, &field) {
		return err
	}
	path := excerpt(name)
	switch {
	case field.Field == "":
	case len(field.Field) > maxPath:
		path += ".…"
	case field.Field[0] == '[':
		path += field.Field
	default:
		path += "." + field.Field
	}
	return &FieldError{Field: path, Problem: field.Problem}
}

// atIndex puts [i] in front of the path of err.
func atIndex(i int, err error) error {
	var field *FieldError
	if !errors.As(err, &field) {
		return err
	}
	path := "[" + strconv.Itoa(i) + "]"
	switch {
	case len(field.Field) > maxPath:
		path += ".…"
	case field.Field != "" && field.Field[0] != '[':
		path += "." + field.Field
	default:
		path += field.Field
	}
	return &FieldError{Field: path, Problem: field.Problem}
}

// excerpt cuts text to what an error may repeat, at a character's boundary and
// without control characters.
func excerpt(text string) string {
	cut := text
	if len(cut) > maxExcerpt {
		cut = cut[:maxExcerpt]
		for len(cut) > 0 && !utf8.RuneStart(text[len(cut)]) {
			cut = cut[:len(cut)-1]
		}
		cut += "…"
	}
	quoted := strconv.QuoteToGraphic(cut)
	return quoted[1 : len(quoted)-1]
}
