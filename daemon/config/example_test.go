package config_test

import (
	"bytes"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"github.com/sigild/sigild/daemon/config"
)

const examplePath = "../../sigild.example.toml"

// required are the keys that stand in the example without being a comment.
var required = []string{"kms.region", "token.label", "token.module", "tpm.profile"}

var (
	tableLine  = regexp.MustCompile(`^\[([a-z]+)\]$`)
	activeLine = regexp.MustCompile(`^([a-z0-9_]+) = (.+)$`)
	quietLine  = regexp.MustCompile(`^# ([a-z0-9_]+) = (.+)$`)
)

// line is one key of the example.
type line struct {
	key     string // dotted
	text    string // key = value, without what makes it a comment
	active  bool
	example bool // has no default and shows an example
	told    bool // the line above is a comment that is no key
}

// exampleLines reads every key of the example, active or not.
func exampleLines(t *testing.T) []line {
	t.Helper()
	data, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	var lines []line
	table, before := "", ""
	for text := range strings.Lines(string(data)) {
		text = strings.TrimRight(text, "\n")
		told := strings.HasPrefix(before, "# ") && !quietLine.MatchString(before)
		before = text
		if m := tableLine.FindStringSubmatch(text); m != nil {
			table = m[1] + "."
		} else if m := activeLine.FindStringSubmatch(text); m != nil {
			lines = append(lines, line{key: table + m[1], text: text, active: true, told: told})
		} else if m := quietLine.FindStringSubmatch(text); m != nil {
			lines = append(lines, line{key: table + m[1], text: text[2:], told: told,
				example: strings.HasSuffix(text, "# example")})
		}
	}
	return lines
}

// keysOf gives the dotted keys of a configuration and their values.
func keysOf(prefix string, v reflect.Value) map[string]any {
	keys := map[string]any{}
	for i := range v.NumField() {
		name := prefix + v.Type().Field(i).Tag.Get("toml")
		if v.Field(i).Kind() == reflect.Struct {
			maps.Copy(keys, keysOf(name+".", v.Field(i)))
		} else {
			keys[name] = v.Field(i).Interface()
		}
	}
	return keys
}

func TestExampleIsValid(t *testing.T) {
	c, err := config.Load(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	if c.Token.Label != "sigild" || c.TPM.Profile != "uki" || c.KMS.Region != "eu-central-1" {
		t.Fatalf("%+v", c)
	}
}

// The example has every key once, says what each is, and leaves active only
// those that are required.
func TestExampleHasEveryKey(t *testing.T) {
	want := keysOf("", reflect.ValueOf(config.Default()))
	seen := map[string]bool{}
	var active []string
	for _, l := range exampleLines(t) {
		if _, known := want[l.key]; !known || seen[l.key] {
			t.Errorf("%s is unknown or there twice", l.key)
		}
		if !l.told {
			t.Errorf("%s: no comment stands above it", l.key)
		}
		seen[l.key] = true
		if l.active {
			active = append(active, l.key)
		}
	}
	for key := range want {
		if !seen[key] {
			t.Errorf("%s is missing", key)
		}
	}
	if slices.Sort(active); !slices.Equal(active, required) {
		t.Errorf("active: %v, want %v", active, required)
	}
}

// What the example gives as a default is the default.
func TestExampleShowsTheDefaults(t *testing.T) {
	want := keysOf("", reflect.ValueOf(config.Default()))
	for _, l := range exampleLines(t) {
		if l.active || l.example {
			continue
		}
		var c config.Config
		table, _, inTable := strings.Cut(l.key, ".")
		text := l.text + "\n"
		if inTable {
			text = "[" + table + "]\n" + text
		}
		if err := toml.NewDecoder(strings.NewReader(text)).DisallowUnknownFields().Decode(&c); err != nil {
			t.Errorf("%s: %v", l.key, err)
			continue
		}
		if got := keysOf("", reflect.ValueOf(c))[l.key]; !same(got, want[l.key]) {
			t.Errorf("%s: the example says %v, the default is %v", l.key, got, want[l.key])
		}
	}
}

// same takes an empty list for none.
func same(a, b any) bool {
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	if va.Kind() == reflect.Slice && va.Len() == 0 && vb.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a, b)
}

// With all defaults written out the configuration is the same.
func TestExampleWithDefaultsWrittenOut(t *testing.T) {
	data, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	var full bytes.Buffer
	for text := range strings.Lines(string(data)) {
		if quietLine.MatchString(strings.TrimRight(text, "\n")) && !strings.Contains(text, "# example") {
			text = text[2:]
		}
		full.WriteString(text)
	}
	got, err := config.Parse(full.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	want, err := config.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	gotKeys, wantKeys := keysOf("", reflect.ValueOf(*got)), keysOf("", reflect.ValueOf(*want))
	for key := range wantKeys {
		if !same(gotKeys[key], wantKeys[key]) {
			t.Errorf("%s: %v, want %v", key, gotKeys[key], wantKeys[key])
		}
	}
}
