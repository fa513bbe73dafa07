package daemon_test

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/sigild/sigild/daemon"
)

// The document in docs is the one that rpc.discover answers: run this test with
// UPDATE=1 in the environment after a change of methods or wire types.
func TestOpenRPCDocument(t *testing.T) {
	const path = "../docs/openrpc.json"
	got, err := daemon.OpenRPC()
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from the methods: UPDATE=1 go test ./daemon -run OpenRPC", path)
	}
}

// Every reference leads to a schema, and every schema is referred to.
func TestOpenRPCReferences(t *testing.T) {
	text, err := daemon.OpenRPC()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Methods    []struct{ Name, Summary string }
		Components struct{ Schemas map[string]json.RawMessage }
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	for name := range doc.Components.Schemas {
		if !bytes.Contains(text, []byte(`"#/components/schemas/`+name+`"`)) {
			t.Errorf("nothing refers to %s", name)
		}
	}
	if n := bytes.Count(text, []byte(`"$ref"`)); n == 0 || len(doc.Methods) < 40 {
		t.Errorf("%d references, %d methods", n, len(doc.Methods))
	}
	for _, m := range doc.Methods {
		if m.Summary == "" {
			t.Errorf("%s has no summary", m.Name)
		}
	}
}
