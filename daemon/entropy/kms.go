package entropy

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// kmsName is the name of the KMS source in the mix and in provenance.
const kmsName = "kms"

// checkBytes is what Check asks for and throws away.
const checkBytes = 32

// KMS is the source "kms": AWS KMS GenerateRandom over the AWS SDK, signed with
// the credentials of this host that the SDK's default chain finds. The role
// needs the one permission kms:GenerateRandom. It is safe for concurrent use.
//
// Requests are retried by the SDK, with exponential back-off and jitter, after
// throttling, KMSInternalException, DependencyTimeoutException, time-outs,
// failed connections and HTTP 5xx; nothing else is retried. Errors are
// [*KMSError].
type KMS struct {
	client  *kms.Client
	retryer aws.RetryerV2
	region  string
}

var _ Source = (*KMS)(nil)

// Name returns "kms".
func (k *KMS) Name() string { return kmsName }

// Region returns the AWS region that is asked.
func (k *KMS) Region() string { return k.region }

// Read asks KMS for n random bytes, 1 to 1,024. The bytes are those that the
// SDK decoded, not a copy; the caller wipes them.
func (k *KMS) Read(ctx context.Context, n int) (Reading, error) {
	if n < 1 || n > MaxBytes {
		return Reading{}, fmt.Errorf("kms: %d bytes asked for, not 1 to %d", n, MaxBytes)
	}
	return k.read(ctx, n, k.retryer)
}

func (k *KMS) read(ctx context.Context, n int, retryer aws.RetryerV2) (Reading, error) {
	last := &lastFailure{RetryerV2: retryer}
	out, err := k.client.GenerateRandom(ctx,
		&kms.GenerateRandomInput{NumberOfBytes: aws.Int32(int32(n))},
		func(o *kms.Options) { o.Retryer = last })
	if err != nil {
		return Reading{}, k.failure(ctx, err, last)
	}
	requestID, _ := middleware.GetRequestIDMetadata(out.ResultMetadata)
	return Reading{Bytes: out.Plaintext, Provenance: Provenance{
		Source:    kmsName,
		Count:     len(out.Plaintext),
		RequestID: cleanText(requestID),
		Region:    k.region,
		Time:      time.Now().UTC(),
	}}, nil
}

// Check makes one real request, which it does not repeat, throws its bytes away
// and reports what stands in the way of making wallets: nil, or a [*KMSError]
// whose Kind and advice are meant for the operator.
func (k *KMS) Check(ctx context.Context) error {
	r, err := k.read(ctx, checkBytes, aws.NopRetryer{})
	if err != nil {
		return err
	}
	defer r.wipe()
	if fault := inspect(kmsName, checkBytes, r); fault != nil {
		return &KMSError{Kind: KMSOther, Region: k.region, RequestID: r.Provenance.RequestID, Detail: "bad answer: " + fault.Reason.String()}
	}
	return nil
}
