package entropy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go/logging"
)

const (
	// maxAnswer bounds an answer in bytes. The longest honest one is 1,024
	// bytes in base64 in a small JSON object.
	maxAnswer = 16 << 10

	// maxAnswerHeaders bounds the answer's header in bytes.
	maxAnswerHeaders = 32 << 10

	// maxConnections bounds the connections to KMS.
	maxConnections = 16
)

// NewKMS makes the KMS source. It loads the AWS configuration once and sends no
// request; use [KMS.Check] to see whether KMS answers. An error says which part
// of the configuration to mend.
func NewKMS(ctx context.Context, c KMSConfig) (*KMS, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	at, err := c.parseEndpoint()
	if err != nil {
		return nil, err
	}
	shared, err := config.LoadDefaultConfig(ctx, config.WithRegion(c.Region), config.WithClientLogMode(0), config.WithLogger(logging.Nop{}))
	if err != nil {
		return nil, fmt.Errorf("kms: load AWS configuration: %w", err)
	}
	k := &KMS{region: c.Region, retryer: newRetryer(c)}
	var problem error
	k.client = kms.NewFromConfig(shared, func(o *kms.Options) { problem = c.apply(o, at, k.retryer) })
	if problem != nil {
		return nil, problem
	}
	return k, nil
}

// apply makes the options ours where the environment could have changed them.
func (c KMSConfig) apply(o *kms.Options, at endpoint, retryer aws.RetryerV2) error {
	if at.url == "" && o.BaseEndpoint != nil {
		return errors.New("kms: AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_KMS or ~/.aws sets an endpoint; remove it, or give the endpoint in sigild's configuration")
	}
	if at.url != "" {
		o.BaseEndpoint = aws.String(at.url)
	}
	client, ok := o.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		return errors.New("kms: the AWS configuration replaces the HTTP client")
	}
	if o.Credentials == nil {
		return errors.New("kms: no AWS credentials provider; give this host a role")
	}
	o.HTTPClient = answers{client.WithTimeout(c.Timeout).WithTransportOptions(at.transport)}
	o.Credentials = hostCredentials{o.Credentials}
	o.Retryer, o.RetryMaxAttempts = retryer, 0
	o.ClientLogMode, o.Logger = 0, logging.Nop{}
	// A wrong clock is the operator's to mend: certificates, budgets and
	// audit times depend on it. The SDK must not paper over it.
	o.DisableClockSkewCorrection = true
	return nil
}

// transport bounds what one server can make this process hold, and leads to the
// Unix socket if there is one.
func (e endpoint) transport(t *http.Transport) {
	t.MaxConnsPerHost = maxConnections
	t.MaxIdleConnsPerHost = maxConnections
	t.MaxResponseHeaderBytes = maxAnswerHeaders
	if e.socket == "" {
		return
	}
	t.Proxy = nil
	t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", e.socket)
	}
}

// newRetryer configures the SDK's standard retryer: what to retry is decided by
// the same classification that the operator sees.
func newRetryer(c KMSConfig) *retry.Standard {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = c.MaxAttempts
		o.MaxBackoff = c.MaxBackoff
		o.Backoff = retry.BackoffDelayerFunc(c.backoff)
		o.Retryables = []retry.IsErrorRetryable{
			retry.NoRetryCanceledError{},
			retry.IsErrorRetryableFunc(func(err error) aws.Ternary { return aws.BoolTernary(worthRetrying(err)) }),
		}
	})
}

// backoff is full jitter: uniform between zero and the doubling bound. The
// SDK's own delayer has no jitter once the bound is reached.
func (c KMSConfig) backoff(attempt int, _ error) (time.Duration, error) {
	bound := c.BaseBackoff
	for range attempt - 1 {
		bound = min(2*bound, c.MaxBackoff)
	}
	return time.Duration(rand.Int64N(int64(bound) + 1)), nil
}

// lastFailure remembers why the last attempt of one call failed, because the
// SDK forgets it when the deadline passes during a back-off. One goroutine uses
// one value.
type lastFailure struct {
	aws.RetryerV2
	err      error
	attempts int
}

// IsErrorRetryable notes the error and asks the real retryer.
func (l *lastFailure) IsErrorRetryable(err error) bool {
	l.err = err
	l.attempts++
	return l.RetryerV2.IsErrorRetryable(err)
}

// hostCredentials marks failures to find credentials, so that they are not
// taken for failures of KMS.
type hostCredentials struct{ chain aws.CredentialsProvider }

// Retrieve asks the default chain.
func (h hostCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	got, err := h.chain.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, &credentialsError{cause: err}
	}
	return got, nil
}

// answers is the HTTP client of the SDK with two checks on what comes back: it
// is bounded, and it is from AWS and not from a proxy's error page.
type answers struct{ client *awshttp.BuildableClient }

// Do sends one attempt.
func (a answers) Do(r *http.Request) (*http.Response, error) {
	response, err := a.client.Do(r)
	if err != nil {
		return nil, err
	}
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if kind != "application/x-amz-json-1.1" && kind != "application/json" {
		_ = response.Body.Close()
		return nil, &foreignAnswer{status: response.StatusCode, contentType: kind}
	}
	response.Body = http.MaxBytesReader(nil, response.Body, maxAnswer)
	return response, nil
}
