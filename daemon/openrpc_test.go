package daemon

import (
	"encoding/json"
	"strings"
	"testing"
)

// The document in docs is the one that rpc.discover answers.
func TestOpenRPCDocument(t *testing.T) {
	text, err := OpenRPC()
	if err != nil {
		t.Fatal(err)
	}
	compareDocument(t, "../docs/openrpc.json", text)
}

// Every reference leads to a schema, and every schema is referred to.
func TestOpenRPCReferences(t *testing.T) {
	text, err := OpenRPC()
	if err != nil {
		t.Fatal(err)
	}
	var doc any
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	referencesIn(doc, found)
	if len(found) == 0 {
		t.Fatal("there is no reference")
	}
	schemas := newOpenRPC().Components.Schemas
	for reference := range found {
		name, local := strings.CutPrefix(reference, "#/components/schemas/")
		if !local || schemas[name] == nil {
			t.Errorf("%s leads nowhere", reference)
		}
	}
	for name := range schemas {
		if found["#/components/schemas/"+name] == 0 {
			t.Errorf("nothing refers to %s", name)
		}
	}
}

// referencesIn counts the values of $ref at every depth of a decoded document.
func referencesIn(value any, found map[string]int) {
	switch v := value.(type) {
	case []any:
		for _, element := range v {
			referencesIn(element, found)
		}
	case map[string]any:
		for name, member := range v {
			if reference, is := member.(string); is && name == "$ref" {
				found[reference]++
			}
			referencesIn(member, found)
		}
	}
}

// Every method that is registered is described once, and says what it is for.
func TestOpenRPCDescribesEveryMethod(t *testing.T) {
	registered := new(Daemon).methods()
	seen := map[string]bool{}
	for _, m := range newOpenRPC().Methods {
		if seen[m.Name] || registered[m.Name] == nil || m.Summary == "" {
			t.Errorf("%s: twice %v, registered %v, summary %q", m.Name, seen[m.Name], registered[m.Name] != nil, m.Summary)
		}
		seen[m.Name] = true
	}
	if len(seen) != len(registered) || len(seen) < 40 {
		t.Errorf("%d methods are described, %d registered", len(seen), len(registered))
	}
}
