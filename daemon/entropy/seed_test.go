package entropy_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/entropy"
)

func TestSeedWipe(t *testing.T) {
	b := newBench(t, entropy.MixerOptions{})
	seed, err := b.mixer.Seed(t.Context(), []byte("wallet"))
	if err != nil {
		t.Fatal(err)
	}
	bytesBefore, feedBefore := seed.Bytes(), seed.TokenFeed()
	seed.Wipe()
	seed.Wipe()
	if !bytes.Equal(bytesBefore, make([]byte, entropy.SeedSize)) || !bytes.Equal(feedBefore, make([]byte, entropy.FeedSize)) {
		t.Error("secrets are left in memory")
	}
	if seed.Bytes() != nil || seed.TokenFeed() != nil || len(seed.Provenance()) != 3 {
		t.Error("a wiped seed still gives something, or lost its provenance")
	}
	seed.Provenance()[0].Source = "changed"
	if seed.Provenance()[0].Source != "kms" {
		t.Error("provenance is not a copy")
	}
}

// No way of printing, logging or marshalling shows a secret.
func TestSecretsAreRedacted(t *testing.T) {
	secret := randomParts("tpm")[0].Bytes
	source := entropy.NewDevice("tpm", model, always(secret))
	m, err := entropy.NewMixer([]entropy.Source{source}, &memory{}, entropy.MixerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	seed, err := m.Seed(t.Context(), []byte("wallet"))
	if err != nil {
		t.Fatal(err)
	}
	defer seed.Wipe()
	reading := entropy.Reading{Bytes: secret, Provenance: entropy.Provenance{Source: "tpm"}}
	part := entropy.Part{Name: "tpm", Bytes: secret}
	nested := struct {
		S *entropy.Seed
		R entropy.Reading
		P []entropy.Part
	}{seed, reading, []entropy.Part{part}}
	for _, v := range []any{seed, *seed, reading, &reading, part, &part, nested, []any{*seed, reading, part}} {
		text := printed(t, v)
		if !strings.Contains(text, "redacted") {
			t.Errorf("%T does not say redacted: %s", v, text)
		}
		for _, s := range [][]byte{secret, seed.Bytes(), seed.TokenFeed()} {
			checkAbsent(t, text, s)
		}
	}
}

// printed is v in every form that a careless line of code may choose.
func printed(t *testing.T, v any) string {
	t.Helper()
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%o", "%T"} {
		fmt.Fprintf(&out, verb+"\n", v)
	}
	j, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	slog.New(slog.NewTextHandler(&out, nil)).Info("text", "v", v)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "v", v)
	return out.String()
}

// checkAbsent looks for the first bytes of a secret in the usual encodings.
func checkAbsent(t *testing.T, text string, secret []byte) {
	t.Helper()
	head := secret[:6]
	forms := []string{
		hex.EncodeToString(head),
		strings.ToUpper(hex.EncodeToString(head)),
		strings.Trim(fmt.Sprint(head), "[]"),
		strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", head), "[]byte{"), "}"),
	}
	encoded, _ := json.Marshal(head)
	forms = append(forms, strings.Trim(string(encoded), `"`))
	for _, form := range forms {
		if strings.Contains(text, form) {
			t.Errorf("a secret is printed as %s", form)
		}
	}
}

func TestReasonsHaveWords(t *testing.T) {
	seen := map[string]bool{}
	for r := entropy.ReasonUnknown; r <= entropy.ReasonProvenance; r++ {
		if seen[r.String()] || (r != entropy.ReasonUnknown && r.String() == "unknown") {
			t.Errorf("reason %d is %q", r, r)
		}
		seen[r.String()] = true
	}
	if (entropy.Reason(200)).String() != "unknown" {
		t.Error("an unknown reason has a word")
	}
}
