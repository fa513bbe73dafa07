package entropy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
)

// wrongClock is how far KMS's Date header may be from this host's clock before
// a refused signature is put down to the clock; AWS accepts five minutes.
const wrongClock = 4 * time.Minute

// credentialsError is a failure of the credential chain. Its text is shown to
// the operator; the chain's errors name providers and paths, not secrets.
type credentialsError struct{ cause error }

// Error names the providers that were tried.
func (e *credentialsError) Error() string { return "no usable AWS credentials: " + e.cause.Error() }

// Unwrap is needed only to see an ended context.
func (e *credentialsError) Unwrap() error { return e.cause }

// foreignAnswer is an HTTP answer that is not KMS's. Its body is never read.
type foreignAnswer struct {
	status      int
	contentType string
}

// Error says what came instead.
func (e *foreignAnswer) Error() string {
	return fmt.Sprintf("answer is not from KMS: HTTP %d, content type %q", e.status, e.contentType)
}

// failure makes the error of one call. If the context ended, the reason is what
// the last attempt met, which is more than "deadline exceeded".
func (k *KMS) failure(ctx context.Context, err error, last *lastFailure) *KMSError {
	shown := err
	if ctx.Err() != nil && last.err != nil && !isCanceled(last.err) {
		shown = last.err
	}
	e := &KMSError{Kind: classify(shown), Region: k.region, Attempts: last.attempts, cause: contextCause(err)}
	if ctx.Err() != nil {
		e.cause = ctx.Err()
	}
	e.describe(shown)
	return e
}

// describe fills in what the answer, if there was one, says.
func (e *KMSError) describe(err error) {
	if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok && answer.HTTPStatusCode() != 0 {
		e.Status = answer.HTTPStatusCode()
		e.RequestID = cleanText(answer.ServiceRequestID())
		if e.Kind == KMSClock {
			e.Skew = skew(answer.Response.Header)
		}
	}
	e.Detail = detail(err)
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		e.Code = cleanText(api.ErrorCode())
	}
	if foreign, ok := errors.AsType[*foreignAnswer](err); ok {
		e.Status = foreign.status
	}
}

// detail chooses a text that cannot hold a part of the answer: AWS's message,
// an own error, or the transport's.
func detail(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return cleanText(api.ErrorMessage())
	}
	if own, ok := errors.AsType[*foreignAnswer](err); ok {
		return cleanText(own.Error())
	}
	if own, ok := errors.AsType[*credentialsError](err); ok {
		return cleanText(own.Error())
	}
	if _, ok := errors.AsType[*smithy.DeserializationError](err); ok && !isTimeout(err) {
		return "answer cannot be decoded"
	}
	if deepest, ok := errors.AsType[net.Error](err); ok {
		return cleanText(deepest.Error())
	}
	return cleanText(err.Error())
}

// worthRetrying decides about one failed attempt. A gateway's 5xx page may pass;
// any other page of a stranger does not.
func worthRetrying(err error) bool {
	if foreign, ok := errors.AsType[*foreignAnswer](err); ok {
		return foreign.status >= http.StatusInternalServerError
	}
	return classify(err).transient()
}

// classify decides the kind of a failed attempt or call, and with it whether it
// is retried.
func classify(err error) KMSKind {
	if _, ok := errors.AsType[*credentialsError](err); ok {
		return KMSCredentials
	}
	if _, ok := errors.AsType[*foreignAnswer](err); ok {
		return KMSProxy
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return classifyAnswer(api, err)
	}
	if kind := classifyTLS(err); kind != KMSOther {
		return kind
	}
	if isTimeout(err) || isCanceled(err) {
		return KMSUnreachable
	}
	if _, ok := errors.AsType[*smithy.DeserializationError](err); ok {
		return classifyUndecodable(err)
	}
	if sent, ok := errors.AsType[interface {
		error
		ConnectionError() bool
	}](err); ok && sent.ConnectionError() {
		return KMSUnreachable
	}
	return KMSOther
}

// classifyUndecodable tells a connection that broke inside an answer, which may
// pass, from JSON that is none, which was not written by KMS.
func classifyUndecodable(err error) KMSKind {
	if status := statusOf(err); status >= http.StatusInternalServerError {
		return KMSUnavailable
	}
	if _, ok := errors.AsType[net.Error](err); ok || brokenOff(err) {
		return KMSUnreachable
	}
	return KMSProxy
}

// classifyAnswer goes by the AWS error code.
func classifyAnswer(api smithy.APIError, err error) KMSKind {
	code := api.ErrorCode()
	if _, throttle := retry.DefaultThrottleErrorCodes[code]; throttle || statusOf(err) == http.StatusTooManyRequests {
		return KMSThrottled
	}
	switch code {
	case "KMSInternalException", "DependencyTimeoutException", "InternalFailure", "InternalError",
		"ServiceUnavailable", "ServiceUnavailableException":
		return KMSUnavailable
	case "RequestTimeout", "RequestTimeoutException":
		return KMSUnreachable
	case "AccessDeniedException", "AccessDenied", "NotAuthorized", "OptInRequired":
		return KMSDenied
	case "RequestExpired", "RequestTimeTooSkewed":
		return KMSClock
	case "InvalidSignatureException", "SignatureDoesNotMatch":
		return classifySignature(api, err)
	case "UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "ExpiredTokenException", "ExpiredToken",
		"MissingAuthenticationToken", "MissingAuthenticationTokenException", "IncompleteSignature", "IncompleteSignatureException":
		return KMSCredentials
	case "CustomKeyStoreNotFoundException", "CustomKeyStoreInvalidStateException", "UnsupportedOperationException":
		return KMSOther // even with a 5xx status: asking again cannot help
	}
	if statusOf(err) >= http.StatusInternalServerError {
		return KMSUnavailable
	}
	return KMSOther
}

// classifySignature tells a wrong clock from a wrong key. AWS uses one code for
// both, and says "Signature expired" or "Signature not yet current" for a clock.
func classifySignature(api smithy.APIError, err error) KMSKind {
	message := api.ErrorMessage()
	if strings.Contains(message, "Signature expired") || strings.Contains(message, "Signature not yet current") {
		return KMSClock
	}
	if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok && answer.Response != nil && skew(answer.Response.Header).Abs() > wrongClock {
		return KMSClock
	}
	return KMSCredentials
}

// classifyTLS finds an answer by somebody who is not AWS, or a clock outside
// the validity of AWS's certificate.
func classifyTLS(err error) KMSKind {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return KMSClock
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return KMSProxy
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return KMSProxy
	}
	return KMSOther
}

// statusOf returns the HTTP status of the answer, or 0.
func statusOf(err error) int {
	if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok && answer.Response != nil {
		return answer.HTTPStatusCode()
	}
	return 0
}

// skew is the server's Date minus this host's clock, 0 if there is no Date.
func skew(h http.Header) time.Duration {
	at, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return time.Until(at)
}
