package kmstest

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// authorization is a parsed Authorization header.
type authorization struct {
	accessKeyID, date, region, service string
	signedHeaders                      []string // sorted, lower case, distinct
	signature                          []byte   // 32 bytes
}

// parseAuthorization accepts exactly one header of the form
//
//	AWS4-HMAC-SHA256 Credential=ID/DATE/REGION/SERVICE/aws4_request, SignedHeaders=a;b, Signature=HEX
func parseAuthorization(values []string) (authorization, error) {
	if len(values) == 0 {
		return authorization{}, &Refusal{Code: "MissingAuthenticationTokenException", Message: "Missing Authentication Token"}
	}
	parameters, ok := strings.CutPrefix(values[0], algorithm+" ")
	if !ok || len(values) != 1 {
		return authorization{}, incomplete("Authorization must be one header that starts with " + algorithm + ".")
	}
	var credential, signed, signature string
	for _, p := range strings.Split(parameters, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		target := map[string]*string{"Credential": &credential, "SignedHeaders": &signed, "Signature": &signature}[name]
		if target == nil || *target != "" || value == "" {
			return authorization{}, incomplete("Authorization has an unknown, empty or repeated parameter.")
		}
		*target = value
	}
	return assemble(credential, signed, signature)
}

// assemble checks the three parameters.
func assemble(credential, signed, signature string) (authorization, error) {
	scope := strings.Split(credential, "/")
	if len(scope) != 5 || scope[4] != terminator || slices.Contains(scope, "") {
		return authorization{}, incomplete("Credential must be ID/YYYYMMDD/region/service/aws4_request.")
	}
	headers := strings.Split(signed, ";")
	if signed != strings.ToLower(signed) || !slices.IsSorted(headers) || len(slices.Compact(slices.Clone(headers))) != len(headers) {
		return authorization{}, incomplete("SignedHeaders must be lower case, sorted and distinct.")
	}
	sum, err := hex.DecodeString(signature)
	if err != nil || len(sum) != sha256.Size || signature != strings.ToLower(signature) {
		return authorization{}, incomplete("Signature must be 64 lower-case hexadecimal digits.")
	}
	return authorization{
		accessKeyID: scope[0], date: scope[1], region: scope[2], service: scope[3],
		signedHeaders: headers, signature: sum,
	}, nil
}

// canonicalRequest is step 1: method, path, query, headers, signed headers and
// the digest of the body, one per line. The path is always "/".
func canonicalRequest(r *http.Request, signed []string, body []byte) string {
	var headers strings.Builder
	for _, name := range signed {
		headers.WriteString(name + ":" + canonicalValue(r, name) + "\n")
	}
	digest := sha256.Sum256(body)
	return strings.Join([]string{
		r.Method, "/", canonicalQuery(r.URL.RawQuery), headers.String(), strings.Join(signed, ";"), hex.EncodeToString(digest[:]),
	}, "\n")
}

// canonicalValue trims each value, folds runs of spaces and joins several
// values with commas. net/http keeps host and length outside of the header.
func canonicalValue(r *http.Request, name string) string {
	values := slices.Clone(r.Header.Values(name))
	switch {
	case name == "host":
		values = []string{r.Host}
	case name == "content-length" && len(values) == 0:
		values = []string{strconv.FormatInt(r.ContentLength, 10)}
	}
	for i, v := range values {
		values[i] = strings.Join(strings.FieldsFunc(v, func(c rune) bool { return c == ' ' || c == '\t' }), " ")
	}
	return strings.Join(values, ",")
}

// canonicalQuery encodes each name and value anew and sorts them.
func canonicalQuery(raw string) string {
	if raw == "" {
		return ""
	}
	var pairs []string
	for _, p := range strings.Split(raw, "&") {
		name, value, _ := strings.Cut(p, "=")
		pairs = append(pairs, reencode(name)+"="+reencode(value))
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// reencode percent-encodes everything but RFC 3986's unreserved characters. A
// broken escape is taken literally, so that it cannot match a signature over
// something else.
func reencode(s string) string {
	if plain, err := url.PathUnescape(s); err == nil {
		s = plain
	}
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteString("%" + strings.ToUpper(hex.EncodeToString([]byte{c})))
	}
	return b.String()
}
