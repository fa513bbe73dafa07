package entropy_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/entropy"
	"github.com/sigild/sigild/daemon/entropy/kmstest"
)

// openKMS starts an endpoint and the real SDK client for it.
func openKMS(t *testing.T, o kmstest.Options, change func(*entropy.KMSConfig)) (*kmstest.Server, *entropy.KMS) {
	t.Helper()
	server := kmstest.New(t, o)
	server.Setenv(t)
	return server, connect(t, server, change)
}

func connect(t *testing.T, server *kmstest.Server, change func(*entropy.KMSConfig)) *entropy.KMS {
	t.Helper()
	c := server.KMSConfig()
	if change != nil {
		change(&c)
	}
	k, err := entropy.NewKMS(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// wantKMS checks the kind of a KMS error.
func wantKMS(t *testing.T, err error, kind entropy.KMSKind) *entropy.KMSError {
	t.Helper()
	e, ok := errors.AsType[*entropy.KMSError](err)
	if !ok || e.Kind != kind {
		t.Fatalf("got %v, want %s", err, kind)
	}
	if !strings.Contains(err.Error(), kind.Advice()) || !strings.Contains(err.Error(), kind.String()) {
		t.Errorf("message %q does not say what to do", err)
	}
	return e
}

func TestKMSRead(t *testing.T) {
	server, k := openKMS(t, kmstest.Options{}, nil)
	if k.Name() != "kms" || k.Region() != "eu-central-1" {
		t.Errorf("%s in %s", k.Name(), k.Region())
	}
	for _, n := range []int{1, 32, 64, 1024} {
		r, err := k.Read(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		p := r.Provenance
		if len(r.Bytes) != n || p.Count != n || p.Source != "kms" || p.Region != "eu-central-1" || len(p.RequestID) != 36 || p.Time.IsZero() {
			t.Errorf("%d bytes: %d, %+v", n, len(r.Bytes), p)
		}
		if n >= 32 && bytes.Equal(r.Bytes, make([]byte, n)) {
			t.Error("bytes are zero")
		}
	}
	for _, n := range []int{0, -1, 1025} {
		if _, err := k.Read(t.Context(), n); err == nil {
			t.Errorf("%d bytes are asked for", n)
		}
	}
	if s := server.Stats(); s != (kmstest.Stats{Requests: 4, Answered: 4}) {
		t.Errorf("stats %+v", s)
	}
}

func TestKMSCheck(t *testing.T) {
	server, k := openKMS(t, kmstest.Options{}, nil)
	if err := k.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.Constant(7, 1)
	wantKMS(t, k.Check(t.Context()), entropy.KMSOther)
	server.Short(16, 1)
	if e := wantKMS(t, k.Check(t.Context()), entropy.KMSOther); !strings.Contains(e.Error(), "short") {
		t.Errorf("message %q", e)
	}
	server.Denied(1)
	wantKMS(t, k.Check(t.Context()), entropy.KMSDenied)
}

// What passes by itself is asked again, up to the configured attempts.
func TestKMSRetries(t *testing.T) {
	server, k := openKMS(t, kmstest.Options{}, func(c *entropy.KMSConfig) { c.MaxAttempts = 3 })
	for name, c := range map[string]struct {
		fail func(requests int)
		kind entropy.KMSKind
	}{
		"throttling":  {server.Throttle, entropy.KMSThrottled},
		"429":         {func(n int) { server.Fail("SlowDown", http.StatusTooManyRequests, n) }, entropy.KMSThrottled},
		"internal":    {func(n int) { server.Fail("KMSInternalException", 500, n) }, entropy.KMSUnavailable},
		"dependency":  {func(n int) { server.Fail("DependencyTimeoutException", 500, n) }, entropy.KMSUnavailable},
		"unavailable": {func(n int) { server.Fail("ServiceUnavailableException", 503, n) }, entropy.KMSUnavailable},
		"any 5xx":     {func(n int) { server.Fail("SomethingNew", 502, n) }, entropy.KMSUnavailable},
		"5xx garbage": {func(n int) { server.Raw(500, "application/x-amz-json-1.1", "[", n) }, entropy.KMSUnavailable},
		"5xx page":    {func(n int) { server.HTML(http.StatusBadGateway, n) }, entropy.KMSProxy},
	} {
		t.Run(name, func(t *testing.T) {
			before := server.Stats().Requests
			c.fail(2)
			r, err := k.Read(t.Context(), 64)
			if err != nil || len(r.Bytes) != 64 {
				t.Fatalf("the third attempt was not made: %v", err)
			}
			c.fail(3)
			_, err = k.Read(t.Context(), 64)
			if e := wantKMS(t, err, c.kind); e.Attempts != 3 {
				t.Errorf("%d attempts", e.Attempts)
			}
			if n := server.Stats().Requests - before; n != 6 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// The SDK's own variables do not change how often KMS is asked.
func TestKMSAttemptsAreOursToSet(t *testing.T) {
	server := kmstest.New(t, kmstest.Options{})
	for name, variables := range map[string]map[string]string{
		"attempts": {"AWS_MAX_ATTEMPTS": "9"},
		"adaptive": {"AWS_RETRY_MODE": "adaptive", "AWS_MAX_ATTEMPTS": "9"},
		"2026":     {"AWS_NEW_RETRIES_2026": "true"},
	} {
		t.Run(name, func(t *testing.T) {
			server.Setenv(t)
			for k, v := range variables {
				t.Setenv(k, v)
			}
			k := connect(t, server, func(c *entropy.KMSConfig) { c.MaxAttempts = 2 })
			server.Throttle(2)
			_, err := k.Read(t.Context(), 64)
			if e := wantKMS(t, err, entropy.KMSThrottled); e.Attempts != 2 {
				t.Errorf("%d attempts", e.Attempts)
			}
			if err := k.Check(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// What does not pass by itself is asked once.
func TestKMSDoesNotRetry(t *testing.T) {
	server, k := openKMS(t, kmstest.Options{}, nil)
	// An answer that would be good if it were not followed by a megabyte.
	padded := `{"Plaintext":"` + base64.StdEncoding.EncodeToString(randomParts("x")[0].Bytes) + `"` + strings.Repeat(" ", 1<<20) + "}"
	fail := func(code string, status int) func() { return func() { server.Fail(code, status, 1) } }
	for name, c := range map[string]struct {
		fail func()
		kind entropy.KMSKind
	}{
		"denied":             {func() { server.Denied(1) }, entropy.KMSDenied},
		"key store missing":  {fail("CustomKeyStoreNotFoundException", 400), entropy.KMSOther},
		"key store state":    {fail("CustomKeyStoreInvalidStateException", 400), entropy.KMSOther},
		"key store with 500": {fail("CustomKeyStoreInvalidStateException", 500), entropy.KMSOther},
		"unsupported":        {fail("UnsupportedOperationException", 400), entropy.KMSOther},
		"validation":         {fail("ValidationException", 400), entropy.KMSOther},
		"unknown":            {fail("SomethingNew", 400), entropy.KMSOther},
		"expired token":      {fail("ExpiredTokenException", 400), entropy.KMSCredentials},
		"unknown key":        {fail("UnrecognizedClientException", 400), entropy.KMSCredentials},
		"wrong secret":       {fail("InvalidSignatureException", 400), entropy.KMSCredentials},
		"no token":           {fail("MissingAuthenticationTokenException", 400), entropy.KMSCredentials},
		"clock":              {func() { server.WrongClock(1) }, entropy.KMSClock},
		"clock code":         {fail("RequestExpired", 400), entropy.KMSClock},
		"login page":         {func() { server.HTML(200, 1) }, entropy.KMSProxy},
		"proxy refusal":      {func() { server.HTML(407, 1) }, entropy.KMSProxy},
		"redirect":           {func() { server.HTML(302, 1) }, entropy.KMSProxy},
		"no JSON":            {func() { server.Raw(200, "application/x-amz-json-1.1", "<html>", 1) }, entropy.KMSProxy},
		"no type":            {func() { server.Raw(200, "", `{"Plaintext":"AAAA"}`, 1) }, entropy.KMSProxy},
		"bad base64":         {func() { server.Raw(200, "application/x-amz-json-1.1", `{"Plaintext":"SECRET!!"}`, 1) }, entropy.KMSProxy},
		"endless":            {func() { server.Raw(200, "application/json", padded, 1) }, entropy.KMSProxy},
	} {
		t.Run(name, func(t *testing.T) {
			before := server.Stats().Requests
			c.fail()
			r, err := k.Read(t.Context(), 64)
			e := wantKMS(t, err, c.kind)
			if r.Bytes != nil || e.Attempts != 1 || e.Status == 0 && c.kind != entropy.KMSProxy {
				t.Errorf("%d bytes, %+v", len(r.Bytes), e)
			}
			if n := server.Stats().Requests - before; n != 1 {
				t.Errorf("%d requests", n)
			}
			if strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), "<html") {
				t.Errorf("the answer is in the message: %q", err)
			}
			if _, err := k.Read(t.Context(), 64); err != nil {
				t.Errorf("does not recover: %v", err)
			}
		})
	}
}

func TestKMSErrorSaysWhatCloudTrailKnows(t *testing.T) {
	server, k := openKMS(t, kmstest.Options{}, nil)
	server.Denied(1)
	_, err := k.Read(t.Context(), 64)
	e := wantKMS(t, err, entropy.KMSDenied)
	if e.Code != "AccessDeniedException" || e.Status != 400 || len(e.RequestID) != 36 || e.Region != "eu-central-1" || e.Detail != "scripted failure" {
		t.Errorf("%+v", e)
	}
	server.Raw(400, "application/x-amz-json-1.1", `{"__type":"AccessDeniedException","message":"a\u001b[31m`+strings.Repeat("x", 5000)+`"}`, 1)
	_, err = k.Read(t.Context(), 64)
	if text := err.Error(); len(text) > 1000 || strings.Contains(text, "\x1b") {
		t.Errorf("message of %d bytes: %q", len(text), text[:100])
	}
}

// A clock that is really off: the server's own signature check refuses it.
func TestKMSClockIsReallyOff(t *testing.T) {
	for _, off := range []time.Duration{time.Hour, -time.Hour} {
		server, k := openKMS(t, kmstest.Options{Now: func() time.Time { return time.Now().Add(off) }}, nil)
		for range 2 {
			_, err := k.Read(t.Context(), 64)
			e := wantKMS(t, err, entropy.KMSClock)
			if (e.Skew - off).Abs() > time.Minute {
				t.Errorf("skew %s, want %s", e.Skew, off)
			}
		}
		if s := server.Stats(); s.SignatureFailures != 2 || s.Requests != 2 {
			t.Errorf("stats %+v", s)
		}
	}
}

func TestKMSWrongCredentials(t *testing.T) {
	for name, variable := range map[string]string{"key": "AWS_ACCESS_KEY_ID", "secret": "AWS_SECRET_ACCESS_KEY", "token": "AWS_SESSION_TOKEN"} {
		t.Run(name, func(t *testing.T) {
			server := kmstest.New(t, kmstest.Options{})
			server.Setenv(t)
			t.Setenv(variable, "wrong")
			_, err := connect(t, server, nil).Read(t.Context(), 64)
			wantKMS(t, err, entropy.KMSCredentials)
			if s := server.Stats(); s.SignatureFailures != 1 || s.Answered != 0 || s.Requests != 1 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

func TestKMSNoCredentials(t *testing.T) {
	server := kmstest.New(t, kmstest.Options{})
	server.Setenv(t)
	for _, variable := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		t.Setenv(variable, "")
	}
	_, err := connect(t, server, nil).Read(t.Context(), 64)
	e := wantKMS(t, err, entropy.KMSCredentials)
	if server.Stats().Requests != 0 || e.Attempts != 1 {
		t.Errorf("asked without credentials: %+v", e)
	}
}

// Each attempt has its own time; then the next one is made.
func TestKMSTimeoutPerAttempt(t *testing.T) {
	server, k := openKMS(t, kmstest.Options{}, func(c *entropy.KMSConfig) { c.Timeout = 400 * time.Millisecond; c.MaxAttempts = 2 })
	server.Hang(1)
	if _, err := k.Read(t.Context(), 64); err != nil {
		t.Fatalf("the second attempt was not made: %v", err)
	}
	server.Slow(time.Minute, 1)
	server.Hang(1)
	_, err := k.Read(t.Context(), 64)
	if e := wantKMS(t, err, entropy.KMSUnreachable); e.Attempts != 2 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%+v", e)
	}
	server.Slow(time.Millisecond, 1)
	if _, err := k.Read(t.Context(), 64); err != nil {
		t.Error(err)
	}
}

func TestKMSEndsWithItsContext(t *testing.T) {
	server, k := openKMS(t, kmstest.Options{}, nil)
	hanging := server.Hang(kmstest.Always)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-hanging; cancel() }()
	_, err := k.Read(ctx, 64)
	if wantKMS(t, err, entropy.KMSUnreachable); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if n := server.Stats().Requests; n != 1 {
		t.Errorf("%d requests", n)
	}
}

// If the deadline passes during a back-off, the error still says why.
func TestKMSDeadlineKeepsTheReason(t *testing.T) {
	server, k := openKMS(t, kmstest.Options{}, func(c *entropy.KMSConfig) {
		c.MaxAttempts, c.BaseBackoff, c.MaxBackoff = 10, time.Minute, time.Minute
	})
	server.Throttle(kmstest.Always)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := k.Read(ctx, 64)
	if e := wantKMS(t, err, entropy.KMSThrottled); !errors.Is(err, context.DeadlineExceeded) || e.Code != "ThrottlingException" {
		t.Errorf("%+v", e)
	}
}

func TestKMSUnreachable(t *testing.T) {
	server, k := openKMS(t, kmstest.Options{}, func(c *entropy.KMSConfig) { c.MaxAttempts = 2 })
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := k.Read(t.Context(), 64)
	if e := wantKMS(t, err, entropy.KMSUnreachable); e.Attempts != 2 || e.Status != 0 || !strings.Contains(e.Detail, "refused") {
		t.Errorf("%+v", e)
	}
}

// Somebody with another certificate is not KMS.
func TestKMSForeignCertificate(t *testing.T) {
	foreign := httptest.NewUnstartedServer(http.NotFoundHandler())
	foreign.Config.ErrorLog = log.New(io.Discard, "", 0)
	foreign.StartTLS()
	defer foreign.Close()
	_, k := openKMS(t, kmstest.Options{}, func(c *entropy.KMSConfig) { c.Endpoint, c.AllowPlaintext = foreign.URL, false })
	_, err := k.Read(t.Context(), 64)
	if e := wantKMS(t, err, entropy.KMSProxy); e.Attempts != 1 {
		t.Errorf("%+v", e)
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	k = connect(t, kmstest.New(t, kmstest.Options{}), func(c *entropy.KMSConfig) { c.Endpoint = strings.Replace(plain.URL, "http:", "https:", 1) })
	_, err = k.Read(t.Context(), 64)
	wantKMS(t, err, entropy.KMSProxy)
}

func TestKMSUnixSocket(t *testing.T) {
	_, k := openKMS(t, kmstest.Options{Socket: filepath.Join(t.TempDir(), "kms.sock")}, nil)
	if err := k.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNewKMSRefuses(t *testing.T) {
	kmstest.New(t, kmstest.Options{}).Setenv(t)
	for name, c := range map[string]entropy.KMSConfig{
		"no region":        {},
		"region as host":   {Region: "eu-central-1.evil.example/"},
		"negative timeout": {Region: "eu-central-1", Timeout: -1},
		"long timeout":     {Region: "eu-central-1", Timeout: time.Hour},
		"attempts":         {Region: "eu-central-1", MaxAttempts: 11},
		"back-off":         {Region: "eu-central-1", BaseBackoff: time.Second, MaxBackoff: time.Millisecond},
		"plaintext":        {Region: "eu-central-1", Endpoint: "http://127.0.0.1:1"},
		"socket":           {Region: "eu-central-1", Endpoint: "unix:///run/kms.sock"},
		"other host":       {Region: "eu-central-1", Endpoint: "http://192.0.2.1:1", AllowPlaintext: true},
		"localhost":        {Region: "eu-central-1", Endpoint: "http://localhost:1", AllowPlaintext: true},
		"relative socket":  {Region: "eu-central-1", Endpoint: "unix://run/kms.sock", AllowPlaintext: true},
		"dotted socket":    {Region: "eu-central-1", Endpoint: "unix:///run/../kms.sock", AllowPlaintext: true},
		"other scheme":     {Region: "eu-central-1", Endpoint: "ftp://127.0.0.1", AllowPlaintext: true},
		"no host":          {Region: "eu-central-1", Endpoint: "https://"},
		"path":             {Region: "eu-central-1", Endpoint: "https://kms.example/path"},
		"user":             {Region: "eu-central-1", Endpoint: "https://user:pass@kms.example"},
		"query":            {Region: "eu-central-1", Endpoint: "https://kms.example/?x"},
		"no URL":           {Region: "eu-central-1", Endpoint: "https://%zz"},
	} {
		k, err := entropy.NewKMS(t.Context(), c)
		if err == nil || k != nil {
			t.Errorf("%s: accepted", name)
		}
		if err != nil && strings.Contains(err.Error(), "pass") {
			t.Errorf("%s: a password is in the message", name)
		}
	}
	for _, region := range []string{"eu-central-1", "us-gov-west-1", "cn-north-1", "eusc-de-east-1", "ap-southeast-5"} {
		if _, err := entropy.NewKMS(t.Context(), entropy.KMSConfig{Region: region}); err != nil {
			t.Errorf("%s: %v", region, err)
		}
	}
}

// An environment variable cannot put another server in the place of KMS.
func TestNewKMSRefusesEndpointOfEnvironment(t *testing.T) {
	server := kmstest.New(t, kmstest.Options{})
	for _, variable := range []string{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS"} {
		t.Run(variable, func(t *testing.T) {
			server.Setenv(t)
			t.Setenv(variable, server.Endpoint())
			if _, err := entropy.NewKMS(t.Context(), entropy.KMSConfig{Region: "eu-central-1"}); err == nil {
				t.Error("accepted")
			}
			t.Setenv(variable, "http://127.0.0.1:1")
			if err := connect(t, server, nil).Check(t.Context()); err != nil {
				t.Errorf("the configured endpoint does not win: %v", err)
			}
		})
	}
}

// keeper keeps what a source gave out, to see whether it is wiped.
type keeper struct {
	entropy.Source
	given []byte
}

func (k *keeper) Read(ctx context.Context, n int) (entropy.Reading, error) {
	r, err := k.Source.Read(ctx, n)
	k.given = r.Bytes
	return r, err
}

// The real SDK through the mixer: each thing that KMS can do wrong stops the
// creation and names it; the bytes that the SDK decoded are wiped.
func TestSeedWithKMS(t *testing.T) {
	server, k := openKMS(t, kmstest.Options{}, nil)
	kept := &keeper{Source: k}
	m, err := entropy.NewMixer([]entropy.Source{entropy.NewDevice("tpm", model, fresh), kept}, &memory{}, entropy.MixerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name   string
		script func()
		reason entropy.Reason
	}{
		{"honest", func() {}, entropy.ReasonUnknown},
		{"repeat", func() { server.Repeat(1) }, entropy.ReasonRepeated},
		{"short", func() { server.Short(63, 1) }, entropy.ReasonShort},
		{"long", func() { server.Short(65, 1) }, entropy.ReasonShort},
		{"none", func() { server.Raw(200, "application/x-amz-json-1.1", "{}", 1) }, entropy.ReasonShort},
		{"null", func() { server.Raw(200, "application/x-amz-json-1.1", `{"Plaintext":null}`, 1) }, entropy.ReasonShort},
		{"ciphertext", func() { server.Raw(200, "application/x-amz-json-1.1", `{"CiphertextForRecipient":"AAAA"}`, 1) }, entropy.ReasonShort},
		{"constant", func() { server.Constant(0xaa, 1) }, entropy.ReasonConstant},
		{"denied", func() { server.Denied(1) }, entropy.ReasonFailed},
		{"throttled", func() { server.Throttle(2) }, entropy.ReasonUnknown},
	} {
		step.script()
		seed, err := m.Seed(t.Context(), []byte("wallet"))
		if step.reason == entropy.ReasonUnknown {
			if err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
			if p := seed.Provenance()[0]; p.Source != "kms" || p.RequestID == "" || p.Region != "eu-central-1" {
				t.Errorf("provenance %+v", p)
			}
			seed.Wipe()
		} else {
			wantFault(t, err, "kms", step.reason)
		}
		if !bytes.Equal(kept.given, make([]byte, len(kept.given))) {
			t.Errorf("%s: KMS's answer is not wiped", step.name)
		}
	}
}

func TestKMSKindsHaveWordsAndAdvice(t *testing.T) {
	words, advice := map[string]bool{}, map[string]bool{}
	for k := entropy.KMSOther; k <= entropy.KMSProxy; k++ {
		words[k.String()], advice[k.Advice()] = true, true
	}
	if n := int(entropy.KMSProxy) + 1; len(words) != n || len(advice) != n || words["clock"] == false {
		t.Errorf("%d words, %d sentences for %d kinds", len(words), len(advice), n)
	}
}

func BenchmarkKMSRead(b *testing.B) {
	server := kmstest.New(b, kmstest.Options{})
	server.Setenv(b)
	k, err := entropy.NewKMS(b.Context(), server.KMSConfig())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		r, err := k.Read(b.Context(), entropy.DefaultBytes)
		if err != nil {
			b.Fatal(err)
		}
		clear(r.Bytes)
	}
}
