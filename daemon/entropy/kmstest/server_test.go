package kmstest_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/sigild/sigild/daemon/entropy/kmstest"
)

func TestStartListensOnThisHostOnly(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", "192.0.2.1:0", "localhost:0", "127.0.0.1", ":0"} {
		if s, err := kmstest.Start(kmstest.Options{Address: address}); err == nil {
			t.Errorf("%s: listens", address)
			_ = s.Close()
		}
	}
	if _, err := kmstest.Start(kmstest.Options{Socket: filepath.Join(t.TempDir(), "no", "such")}); err == nil {
		t.Error("listens nowhere")
	}
}

func TestServersHaveTheirOwnCredentials(t *testing.T) {
	one, two := kmstest.New(t, kmstest.Options{}), kmstest.New(t, kmstest.Options{Region: "us-east-1"})
	if one.Env()[0] == two.Env()[0] || one.Env()[1] == two.Env()[1] || one.Endpoint() == two.Endpoint() {
		t.Error("two servers share something")
	}
	if one.Region() != "eu-central-1" || two.KMSConfig().Region != "us-east-1" || two.KMSConfig().Endpoint != two.Endpoint() {
		t.Error("region or endpoint")
	}
	fixed := kmstest.New(t, kmstest.Options{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret"})
	if env := strings.Join(fixed.Env(), "\n"); !strings.Contains(env, "AWS_ACCESS_KEY_ID=AKIDEXAMPLE\nAWS_SECRET_ACCESS_KEY=secret\nAWS_SESSION_TOKEN=\n") {
		t.Error("given credentials are not used")
	}
}

func TestUnsignedRequestsAreRefusedAndCounted(t *testing.T) {
	s := kmstest.New(t, kmstest.Options{})
	s.Throttle(1)
	for _, body := range []string{`{"NumberOfBytes":32}`, strings.Repeat("x", 1<<20)} {
		response, err := http.Post(s.Endpoint(), "application/x-amz-json-1.1", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode < 400 || response.Header.Get("X-Amzn-Requestid") == "" {
			t.Errorf("status %d", response.StatusCode)
		}
	}
	if got := s.Stats(); got != (kmstest.Stats{Requests: 2, SignatureFailures: 1}) {
		t.Errorf("stats %+v", got)
	}
}

// Close may be called twice, and nothing listens after it.
func TestClose(t *testing.T) {
	s, err := kmstest.Start(kmstest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if _, err := http.Get(s.Endpoint()); err == nil {
		t.Error("still listens")
	}
}

// Signed requests for anything but 1 to 1,024 plain bytes are refused, and use
// up nothing of the script.
func TestOnlyGenerateRandomIsAnswered(t *testing.T) {
	s := kmstest.New(t, kmstest.Options{})
	s.Setenv(t)
	shared, err := config.LoadDefaultConfig(t.Context(), config.WithRegion(s.Region()))
	if err != nil {
		t.Fatal(err)
	}
	client := kms.NewFromConfig(shared, func(o *kms.Options) { o.BaseEndpoint = aws.String(s.Endpoint()) })
	s.Denied(1)
	random := func(in kms.GenerateRandomInput) func() error {
		return func() error { _, err := client.GenerateRandom(t.Context(), &in); return err }
	}
	for name, c := range map[string]struct {
		call func() error
		code string
	}{
		"other operation": {func() error { _, err := client.ListKeys(t.Context(), nil); return err }, "UnknownOperationException"},
		"no number":       {random(kms.GenerateRandomInput{}), "ValidationException"},
		"0 bytes":         {random(kms.GenerateRandomInput{NumberOfBytes: aws.Int32(0)}), "ValidationException"},
		"1025 bytes":      {random(kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1025)}), "ValidationException"},
		"key store":       {random(kms.GenerateRandomInput{NumberOfBytes: aws.Int32(32), CustomKeyStoreId: aws.String("x")}), "SerializationException"},
		"recipient":       {random(kms.GenerateRandomInput{NumberOfBytes: aws.Int32(32), Recipient: &types.RecipientInfo{}}), "SerializationException"},
	} {
		if err := c.call(); err == nil || !strings.Contains(err.Error(), c.code) {
			t.Errorf("%s: got %v, want %s", name, err, c.code)
		}
	}
	if err := random(kms.GenerateRandomInput{NumberOfBytes: aws.Int32(32)})(); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
		t.Errorf("the script was used up: %v", err)
	}
	s.Denied(kmstest.Always)
	s.Reset()
	if err := random(kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1024)})(); err != nil {
		t.Error(err)
	}
	if got := s.Stats(); got != (kmstest.Stats{Requests: 8, Answered: 1}) {
		t.Errorf("stats %+v", got)
	}
}
