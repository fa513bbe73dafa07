package kmstest_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/entropy/kmstest"
)

// suite is the verifier for the credentials, scope and time of AWS's published
// Signature Version 4 test suite.
func suite() kmstest.Verifier {
	return kmstest.Verifier{
		AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
		Region: "us-east-1", Service: "service",
		Now: func() time.Time { return time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC) },
	}
}

// parse reads a request as a server does.
func parse(t testing.TB, raw string) (*http.Request, []byte) {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.ReplaceAll(raw, "\n", "\r\n"))))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, body
}

const suiteToken = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="

// vanilla is one case: request line, further headers, signed headers, and the
// signature that AWS publishes for it.
func vanilla(line, headers, signed, signature, body string) string {
	return line + " HTTP/1.1\nHost: example.amazonaws.com\nX-Amz-Date: 20150830T123600Z\n" + headers +
		"Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=" +
		signed + ", Signature=" + signature + "\n\n" + body
}

// The signatures are those of the AWS Signature Version 4 test suite.
func TestVerifyAWSTestSuite(t *testing.T) {
	const form = "Content-Type: application/x-www-form-urlencoded\nContent-Length: 13\n"
	for name, raw := range map[string]string{
		"get-vanilla":                      vanilla("GET /", "", "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31", ""),
		"post-vanilla":                     vanilla("POST /", "", "host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b", ""),
		"get-vanilla-query-order-key-case": vanilla("GET /?Param2=value2&Param1=value1", "", "host;x-amz-date", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500", ""),
		"get-vanilla-utf8-query":           vanilla("GET /?ሴ=bar", "", "host;x-amz-date", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04", ""),
		"post-header-key-sort":             vanilla("POST /", "My-Header1: value1\n", "host;my-header1;x-amz-date", "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c", ""),
		"get-header-value-trim":            vanilla("GET /", "My-Header1:  value1\nMy-Header2:  \"a   b   c\"\n", "host;my-header1;my-header2;x-amz-date", "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736", ""),
		"get-header-key-duplicate":         vanilla("GET /", "My-Header1: value2\nMy-Header1: value2\nMy-Header1: value1\n", "host;my-header1;x-amz-date", "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea", ""),
		"post-x-www-form-urlencoded":       vanilla("POST /", form, "content-type;host;x-amz-date", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a", "Param1=value1"),
	} {
		t.Run(name, func(t *testing.T) {
			r, body := parse(t, raw)
			if err := suite().Verify(r, body); err != nil {
				t.Error(err)
			}
		})
	}
}

// The example of the IAM User Guide.
func TestVerifyUserGuideExample(t *testing.T) {
	r, body := parse(t, `GET /?Action=ListUsers&Version=2010-05-08 HTTP/1.1
Host: iam.amazonaws.com
Content-Type: application/x-www-form-urlencoded; charset=utf-8
X-Amz-Date: 20150830T123600Z
Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7

`)
	v := suite()
	v.Service = "iam"
	if err := v.Verify(r, body); err != nil {
		t.Error(err)
	}
}

// post-sts-header-before of the test suite: the session token is signed.
func TestVerifySessionToken(t *testing.T) {
	raw := vanilla("POST /", "X-Amz-Security-Token: "+suiteToken+"\n", "host;x-amz-date;x-amz-security-token",
		"85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead", "")
	v := suite()
	r, body := parse(t, raw)
	if err := v.Verify(r, body); code(err) != "UnrecognizedClientException" {
		t.Errorf("an unexpected token: %v", err)
	}
	v.SessionToken = suiteToken
	if err := v.Verify(r, body); err != nil {
		t.Error(err)
	}
	v.SessionToken = suiteToken + "x"
	if err := v.Verify(r, body); code(err) != "UnrecognizedClientException" {
		t.Errorf("another token: %v", err)
	}
}

func code(err error) string {
	if refusal, ok := errors.AsType[*kmstest.Refusal](err); ok {
		return refusal.Code
	}
	return ""
}

const postSignature = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"

func TestVerifyRefuses(t *testing.T) {
	good := vanilla("POST /", "", "host;x-amz-date", postSignature, "")
	for name, c := range map[string]struct{ old, changed, code string }{
		"no header":          {"Authorization: ", "X-Other: ", "MissingAuthenticationTokenException"},
		"two headers":        {"Authorization: ", "Authorization: x\nAuthorization: ", "IncompleteSignatureException"},
		"other algorithm":    {"AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1", "IncompleteSignatureException"},
		"unknown parameter":  {"SignedHeaders=", "Extra=1, SignedHeaders=", "IncompleteSignatureException"},
		"repeated parameter": {"SignedHeaders=", "SignedHeaders=a, SignedHeaders=", "IncompleteSignatureException"},
		"no signature":       {", Signature=" + postSignature, "", "IncompleteSignatureException"},
		"short signature":    {postSignature, postSignature[:62], "IncompleteSignatureException"},
		"upper-case hex":     {postSignature, strings.ToUpper(postSignature), "IncompleteSignatureException"},
		"unsorted headers":   {"host;x-amz-date", "x-amz-date;host", "IncompleteSignatureException"},
		"repeated headers":   {"host;x-amz-date", "host;host;x-amz-date", "IncompleteSignatureException"},
		"short scope":        {"/aws4_request", "", "IncompleteSignatureException"},
		"other terminator":   {"/aws4_request", "/aws5_request", "IncompleteSignatureException"},
		"other key":          {"AKIDEXAMPLE", "AKIDEXAMPLF", "UnrecognizedClientException"},
		"other region":       {"us-east-1", "us-east-2", "InvalidSignatureException"},
		"other service":      {"/service/", "/kms/", "InvalidSignatureException"},
		"no date":            {"X-Amz-Date: 20150830T123600Z\n", "", "IncompleteSignatureException"},
		"bad date":           {"X-Amz-Date: 20150830T123600Z", "X-Amz-Date: 2015-08-30", "IncompleteSignatureException"},
		"other scope date":   {"AKIDEXAMPLE/20150830", "AKIDEXAMPLE/20150831", "InvalidSignatureException"},
		"host not signed":    {"host;x-amz-date", "x-amz-date", "InvalidSignatureException"},
		"date not signed":    {"host;x-amz-date", "host", "InvalidSignatureException"},
		"target not signed":  {"Host:", "X-Amz-Target: TrentService.Decrypt\nHost:", "InvalidSignatureException"},
		"type not signed":    {"Host:", "Content-Type: text/plain\nHost:", "InvalidSignatureException"},
		"other method":       {"POST /", "PUT /", "InvalidSignatureException"},
		"other path":         {"POST /", "POST /x", "InvalidSignatureException"},
		"a query":            {"POST /", "POST /?a=b", "InvalidSignatureException"},
		"other host":         {"example.amazonaws.com", "example.amazonaws.org", "InvalidSignatureException"},
		"one bit":            {postSignature, "4" + postSignature[1:], "InvalidSignatureException"},
		"four minutes more":  {"X-Amz-Date: 20150830T123600Z", "X-Amz-Date: 20150830T124000Z", "InvalidSignatureException"},
	} {
		t.Run(name, func(t *testing.T) {
			raw := strings.Replace(good, c.old, c.changed, 1)
			if raw == good {
				t.Fatal("nothing changed")
			}
			r, body := parse(t, raw)
			if err := suite().Verify(r, body); code(err) != c.code {
				t.Errorf("got %v, want %s", err, c.code)
			}
		})
	}
	r, _ := parse(t, good)
	if err := suite().Verify(r, []byte("{}")); code(err) != "InvalidSignatureException" {
		t.Errorf("other body: %v", err)
	}
	if err := (kmstest.Verifier{Now: time.Now}).Verify(r, nil); code(err) != "UnrecognizedClientException" {
		t.Errorf("no key: %v", err)
	}
}

func TestVerifyClock(t *testing.T) {
	for offset, want := range map[time.Duration]string{
		0: "", 5 * time.Minute: "", -5 * time.Minute: "",
		5*time.Minute + time.Second:  "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)",
		-5*time.Minute - time.Second: "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z (20150830T123059Z + 5 min.)",
	} {
		v := suite()
		now := v.Now().Add(offset)
		v.Now = func() time.Time { return now }
		r, body := parse(t, vanilla("POST /", "", "host;x-amz-date", postSignature, ""))
		err := v.Verify(r, body)
		if want == "" && err != nil || want != "" && (code(err) != "InvalidSignatureException" || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v", offset, err)
		}
	}
}

// FuzzVerify: whatever the header holds, only AWS's own signature passes, and
// every refusal has an AWS error code.
func FuzzVerify(f *testing.F) {
	raw := vanilla("POST /", "", "host;x-amz-date", postSignature, "")
	_, header, _ := strings.Cut(raw, "Authorization: ")
	good := strings.TrimSpace(header)
	for _, seed := range []string{good, "", "AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256 ,,,", strings.ReplaceAll(good, ", ", ","), good + ","} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, authorization string) {
		r, _ := http.NewRequest(http.MethodPost, "http://example.amazonaws.com/", bytes.NewReader(nil))
		r.Header.Set("X-Amz-Date", "20150830T123600Z")
		r.Header["Authorization"] = []string{authorization}
		err := suite().Verify(r, nil)
		if err == nil && !strings.Contains(authorization, postSignature) {
			t.Fatalf("%q passes", authorization)
		}
		if err != nil && code(err) == "" {
			t.Fatalf("%q: %v", authorization, err)
		}
	})
}
