package entropy

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// KMSKind is the class of a KMS failure, small enough for a status line. The
// zero value is KMSOther, which is never retried.
type KMSKind uint8

// The kinds of [KMSError].
const (
	KMSOther       KMSKind = iota
	KMSThrottled           // the account's request quota is used up
	KMSUnreachable         // no connection, or no answer in time
	KMSUnavailable         // KMS itself reports an internal failure
	KMSDenied              // this host's role may not call GenerateRandom
	KMSCredentials         // no credentials, or expired or invalid ones
	KMSClock               // this host's clock is wrong
	KMSProxy               // something other than AWS answers
)

// String returns the kind as one stable lower-case word.
func (k KMSKind) String() string {
	switch k {
	case KMSThrottled:
		return "throttled"
	case KMSUnreachable:
		return "unreachable"
	case KMSUnavailable:
		return "unavailable"
	case KMSDenied:
		return "denied"
	case KMSCredentials:
		return "credentials"
	case KMSClock:
		return "clock"
	case KMSProxy:
		return "proxy"
	default:
		return "other"
	}
}

// Advice is one sentence that tells the operator what to do.
func (k KMSKind) Advice() string {
	switch k {
	case KMSThrottled:
		return "The account's KMS request quota for this region is used up: raise it in Service Quotas or find what else uses it."
	case KMSUnreachable:
		return "Check DNS, routes, the firewall and the VPC endpoint from this host to kms.REGION.amazonaws.com, port 443."
	case KMSUnavailable:
		return "KMS reports a failure of its own: wait, and see the AWS Health Dashboard for the region."
	case KMSDenied:
		return "Give this host's role the permission kms:GenerateRandom, and check service control and VPC endpoint policies."
	case KMSCredentials:
		return "Check this host's role: the instance profile, or the AWS_* variables and ~/.aws of the daemon's user; restart sigild if they were changed."
	case KMSClock:
		return "Set this host's clock (chronyc tracking, timedatectl): AWS refuses signatures more than five minutes off."
	case KMSProxy:
		return "Something between this host and AWS answers in place of KMS: check HTTPS_PROXY, the firewall, AWS_CA_BUNDLE and the configured endpoint."
	default:
		return "Look up the error code in the KMS documentation of GenerateRandom; it will not go away by itself."
	}
}

// transient reports whether the SDK should try again.
func (k KMSKind) transient() bool {
	return k == KMSThrottled || k == KMSUnreachable || k == KMSUnavailable
}

// KMSError is returned by [KMS.Read] and [KMS.Check]. It keeps nothing of the
// SDK's error, which may hold a part of the answer.
type KMSError struct {
	Kind      KMSKind
	Code      string        // AWS error code such as "ThrottlingException", or empty
	Status    int           // HTTP status, 0 without an answer
	RequestID string        // x-amzn-RequestId, or empty
	Region    string        // AWS region that was asked
	Attempts  int           // attempts that failed
	Skew      time.Duration // KMSClock: KMS's clock minus this host's, 0 if unknown
	Detail    string        // printable, at most 300 bytes, never secret

	cause error // context.Canceled, context.DeadlineExceeded or nil
}

// Error says what failed and what to do.
func (e *KMSError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "kms GenerateRandom in %s: %s", e.Region, e.Kind)
	if e.Code != "" {
		fmt.Fprintf(&b, ": %s", e.Code)
	}
	if e.Status != 0 {
		fmt.Fprintf(&b, ", HTTP %d", e.Status)
	}
	if e.RequestID != "" {
		fmt.Fprintf(&b, ", request %s", e.RequestID)
	}
	if e.Attempts > 1 {
		fmt.Fprintf(&b, ", %d attempts", e.Attempts)
	}
	if e.Skew != 0 {
		fmt.Fprintf(&b, ", this host is %s off", (-e.Skew).Round(time.Second))
	}
	if e.Detail != "" {
		fmt.Fprintf(&b, ": %s", e.Detail)
	}
	return b.String() + ". " + e.Kind.Advice()
}

// Unwrap returns context.Canceled or context.DeadlineExceeded if the caller's
// context or an attempt's time ended, else nil.
func (e *KMSError) Unwrap() error { return e.cause }

// contextCause keeps only what callers match of an error.
func contextCause(err error) error {
	if isCanceled(err) {
		return context.Canceled
	}
	if isTimeout(err) {
		return context.DeadlineExceeded
	}
	return nil
}

// cleanText makes text of the network fit for a log: printable ASCII, bounded.
func cleanText(s string) string {
	const limit = 300
	var b strings.Builder
	for _, r := range s {
		if b.Len() >= limit {
			break
		}
		if r < ' ' || r > '~' {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}
