package kmstest

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	// algorithm is the only one of Signature Version 4 that is accepted.
	algorithm = "AWS4-HMAC-SHA256"

	// terminator ends the credential scope.
	terminator = "aws4_request"

	// amzDate is the form of X-Amz-Date, as a layout of package time.
	amzDate = "20060102T150405Z"

	// maxSkew is how far a request's date may be from the server's clock.
	maxSkew = 5 * time.Minute
)

// Refusal is returned when a request is not authenticated or not well-formed.
// Code is the AWS error code that the client gets.
type Refusal struct {
	Code    string
	Message string
}

// Error returns code and message.
func (e *Refusal) Error() string { return e.Code + ": " + e.Message }

// Verifier checks AWS Signature Version 4 in the Authorization header, as
// written in "Create a signed AWS API request" of the IAM User Guide. It is
// safe for concurrent use and fails closed: an empty key verifies nothing.
type Verifier struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string // empty if the credentials are long-lived
	Region          string
	Service         string // "kms"
	Now             func() time.Time
}

// Verify returns nil if the request with this body was signed with the
// verifier's credentials, for its region and service, within five minutes of
// its clock, over host, date, content type, every x-amz header and the body.
// The only path is "/". Errors are [*Refusal].
func (v Verifier) Verify(r *http.Request, body []byte) error {
	a, err := parseAuthorization(r.Header.Values("Authorization"))
	if err != nil {
		return err
	}
	if err := v.checkCredential(r, a); err != nil {
		return err
	}
	if err := v.checkDate(r, a); err != nil {
		return err
	}
	if err := checkCoverage(r, a.signedHeaders); err != nil {
		return err
	}
	want := v.signature(r, a, body)
	if !hmac.Equal(want, a.signature) {
		return invalid("The request signature we calculated does not match the signature you provided.")
	}
	return nil
}

// checkCredential compares key, scope and session token.
func (v Verifier) checkCredential(r *http.Request, a authorization) error {
	if v.AccessKeyID == "" || v.SecretAccessKey == "" || !equal(a.accessKeyID, v.AccessKeyID) {
		return unrecognized()
	}
	if !equal(r.Header.Get("X-Amz-Security-Token"), v.SessionToken) {
		return unrecognized()
	}
	if a.region != v.Region || a.service != v.Service {
		return invalid(fmt.Sprintf("Credential should be scoped to a valid region and service: %s/%s.", v.Region, v.Service))
	}
	return nil
}

// checkDate compares the request's date with the scope and the clock. The
// messages are AWS's, since clients tell a wrong clock by them.
func (v Verifier) checkDate(r *http.Request, a authorization) error {
	stamp := r.Header.Get("X-Amz-Date")
	at, err := time.Parse(amzDate, stamp)
	if err != nil {
		return incomplete("Date must be in ISO-8601 'basic format'.")
	}
	if a.date != stamp[:8] {
		return invalid("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP.")
	}
	now := v.Now().UTC()
	if earliest := now.Add(-maxSkew); at.Before(earliest) {
		return invalid(fmt.Sprintf("Signature expired: %s is now earlier than %s (%s - 5 min.)", stamp, earliest.Format(amzDate), now.Format(amzDate)))
	}
	if latest := now.Add(maxSkew); at.After(latest) {
		return invalid(fmt.Sprintf("Signature not yet current: %s is still later than %s (%s + 5 min.)", stamp, latest.Format(amzDate), now.Format(amzDate)))
	}
	return nil
}

// checkCoverage demands that whatever decides the meaning of the request is
// signed.
func checkCoverage(r *http.Request, signed []string) error {
	required := []string{"host", "x-amz-date"}
	for name := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") || name == "content-type" {
			required = append(required, name)
		}
	}
	for _, name := range required {
		if !slices.Contains(signed, name) {
			return invalid(fmt.Sprintf("'%s' must be a 'SignedHeader' in the AWS Authorization.", name))
		}
	}
	if r.URL.Path != "/" {
		return invalid("The only path of this service is '/'.")
	}
	return nil
}

// signature is the last two steps: the key of date, region and service, then
// the HMAC over the string to sign.
func (v Verifier) signature(r *http.Request, a authorization, body []byte) []byte {
	scope := strings.Join([]string{a.date, a.region, a.service, terminator}, "/")
	request := sha256.Sum256([]byte(canonicalRequest(r, a.signedHeaders, body)))
	toSign := strings.Join([]string{algorithm, r.Header.Get("X-Amz-Date"), scope, hex.EncodeToString(request[:])}, "\n")
	key := []byte("AWS4" + v.SecretAccessKey)
	for _, s := range []string{a.date, a.region, a.service, terminator, toSign} {
		key = mac(key, s)
	}
	return key
}

// mac is HMAC-SHA-256.
func mac(key []byte, s string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(s))
	return h.Sum(nil)
}

// equal compares in constant time for equal lengths.
func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func invalid(message string) error {
	return &Refusal{Code: "InvalidSignatureException", Message: message}
}

func incomplete(message string) error {
	return &Refusal{Code: "IncompleteSignatureException", Message: message}
}

func unrecognized() error {
	return &Refusal{Code: "UnrecognizedClientException", Message: "The security token included in the request is invalid."}
}
