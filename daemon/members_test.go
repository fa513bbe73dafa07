package daemon

import (
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const methodsDocument = "../docs/rpc.md"

// generated is a part of docs/rpc.md that is made from the code.
var generated = regexp.MustCompile(`(?s)<!-- (method|members): ([\w.]+) -->\n.*?<!-- end -->`)

// TestMembersDocument keeps the heads of the sections in docs/rpc.md, with the
// tables of parameters and results, equal to what rpc.discover answers.
func TestMembersDocument(t *testing.T) {
	text, err := os.ReadFile(methodsDocument)
	if err != nil {
		t.Fatal(err)
	}
	d := newRPCDocument(t)
	want := generated.ReplaceAllFunc(text, func(found []byte) []byte {
		kind, name := string(generated.FindSubmatch(found)[1]), string(generated.FindSubmatch(found)[2])
		body := ""
		if kind == "method" {
			body = d.head(name)
		} else {
			body = d.members(name)
		}
		return fmt.Appendf(nil, "<!-- %s: %s -->\n%s<!-- end -->", kind, name, body)
	})
	compareDocument(t, methodsDocument, want)
}

// TestEveryMethodIsDocumented also holds the named reasons against the code.
func TestEveryMethodIsDocumented(t *testing.T) {
	text, err := os.ReadFile(methodsDocument)
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, s := range strings.Split(string(text), "\n<!-- method: ")[1:] {
		name, rest, _ := strings.Cut(s, " -->\n")
		if sections[name] != "" {
			t.Errorf("%s has two sections in %s", name, methodsDocument)
		}
		sections[name] = rest
	}
	for name := range new(Daemon).methods() {
		played := regexp.MustCompile(`(?s)\n<!-- end -->\n.*?\nErrors: .*?` + "```jsonrpc\n.*?" + `"method": "` + regexp.QuoteMeta(name) + `"`)
		if !played.MatchString(sections[name]) {
			t.Errorf("%s has no section with errors and an example in %s", name, methodsDocument)
		}
	}
	all := reasons(t)
	for _, line := range regexp.MustCompile(`(?m)^Errors: .*$`).FindAll(text, -1) {
		for _, m := range regexp.MustCompile("`(\\w+)`").FindAllSubmatch(line, -1) {
			if all[string(m[1])] == nil {
				t.Errorf("%s names the reason %q, which is none", methodsDocument, m[1])
			}
		}
	}
}

// wireTypes are the structs of package ipc.
func wireTypes(t *testing.T) map[string]*ast.StructType {
	t.Helper()
	files, err := filepath.Glob("../ipc/wire*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	types := map[string]*ast.StructType{}
	for _, file := range files {
		f, err := parser.ParseFile(gotoken.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if s, ok := spec.Type.(*ast.StructType); ok {
					types[spec.Name.Name] = s
				}
			}
			return true
		})
	}
	return types
}

// comment is a field's comment on one line, with the wire's own names.
func comment(field, member, text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if rest, found := strings.CutPrefix(text, field+" "); found {
		text = "`" + member + "` " + rest
	}
	text = regexp.MustCompile(`\b[A-Z][A-Za-z]+\b`).ReplaceAllStringFunc(text, func(word string) string {
		if name := wireWords()[word]; name != "" {
			return "`" + name + "`"
		}
		return word
	})
	return text
}

// wireWords are names of fields that comments use, as they are on the wire.
func wireWords() map[string]string {
	return map[string]string{"WalletID": "walletId", "Address": "address", "ExternalID": "externalId", "RequestID": "requestId",
		"FrozenAt": "frozenAt", "FrozenBy": "frozenBy", "DeletedAt": "deletedAt", "MaxValue": "maxValue", "MaxCost": "maxCost",
		"Reasons": "reasons", "Action": "action", "Ciphertext": "ciphertext", "PCRs": "pcrs", "PCRProfile": "pcrProfile", "Accounts": "accounts", "Raw": "raw", "Hash": "hash"}
}
