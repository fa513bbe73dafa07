package ipctest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// kept are the members whose recorded value stands for this run's wherever it
// occurs; loose those that differ and do not come again.
var (
	kept  = []string{"walletId", "address", "installation", "identityKey", "key", "publicKey", "cursor", "hash"}
	loose = []string{"signature", "statement", "serial", "firmware", "model", "manufacturer", "version", "wrapMechanism",
		"requestId", "keyId", "createdAt", "time", "frozenAt", "deletedAt", "pinSetAt", "until", "notBefore", "notAfter", "raw", "r", "s", "v", "yParity", "lockedUntil", "proof",
		"exportedAt", "enc", "ciphertext"}
)

// elision stands in a recorded text for what was left out of it, and as the name
// of a member for those of an object.
const elision = "…"

// learn takes the values that stand for others from two answers of the same
// form, as far as they have it.
func (p *player) learn(name string, want, got any) {
	switch w := want.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		for member, value := range w {
			if other, there := g[member]; there {
				p.learn(member, value, other)
			}
		}
	case []any:
		g, _ := got.([]any)
		for n := range min(len(w), len(g)) {
			p.learn(name, w[n], g[n])
		}
	case string:
		g, _ := got.(string)
		if slices.Contains(kept, name) && len(w) >= 16 && len(g) >= 16 && !strings.Contains(w, elision) {
			p.remember(w, g)
		}
	}
}

// remember binds a recorded value once; an address also in lower case.
func (p *player) remember(recorded, live string) {
	if p.values[recorded] == "" {
		p.values[recorded] = live
	}
	if lower := strings.ToLower(recorded); p.values[lower] == "" {
		p.values[lower] = strings.ToLower(live)
	}
}

// live puts this run's values in the place of the recorded ones.
func (p *player) live(text string) string { return p.replace(text, false) }

func (p *player) replace(text string, back bool) string {
	var pairs []string
	for recorded, live := range p.values {
		if back {
			recorded, live = live, recorded
		}
		pairs = append(pairs, recorded, live)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// same compares an answer with a recorded one.
func (p *player) same(path, name string, want, got any) error {
	if want == anyValue {
		return nil
	}
	differs := fmt.Errorf("%s differs", strings.TrimPrefix(path, "."))
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		_, partial := w[elision]
		if !ok || (len(g) != len(w) && !partial) {
			return differs
		}
		for member, value := range w {
			if member == elision {
				continue
			}
			if _, there := g[member]; !there {
				return fmt.Errorf("%s.%s is missing", path, member)
			}
			if err := p.same(path+"."+member, member, value, g[member]); err != nil {
				return err
			}
		}
		return nil
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return differs
		}
		for n := range w {
			if err := p.same(fmt.Sprintf("%s[%d]", path, n), name, w[n], g[n]); err != nil {
				return err
			}
		}
		return nil
	case string:
		g, ok := got.(string)
		if !ok || !p.sameText(name, w, g) {
			return differs
		}
		return nil
	}
	if want != got {
		return differs
	}
	return nil
}

func (p *player) sameText(name, want, got string) bool {
	if p.live(want) == got {
		return true
	}
	before, after, elided := strings.Cut(want, elision)
	if slices.Contains(loose, name) || (elided && slices.Contains(kept, name)) {
		return formOf(want) == formOf(got)
	}
	return elided && strings.HasPrefix(got, before) && strings.HasSuffix(got, after)
}

// formOf tells texts apart that are values of different kinds.
func formOf(text string) string {
	if strings.HasPrefix(text, "0x") {
		return "hexadecimal"
	}
	if _, err := time.Parse(time.RFC3339, text); err == nil {
		return "time"
	}
	if strings.HasPrefix(text, "{") {
		return "object"
	}
	return "text"
}

// written is an answer as it stands in a file: with the recorded values, and
// without the middle of long ones.
func (p *player) written(recorded string, raw json.RawMessage) string {
	var want any
	if json.Unmarshal([]byte(recorded), &want) != nil {
		want = nil // there is nothing to leave open
	}
	text := p.replace(string(raw), true)
	var b bytes.Buffer
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := writeValue(&b, d, 0, want); err != nil {
		return text
	}
	return b.String()
}
