package daemon

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

const methodsDocument = "../docs/rpc.md"

// TestMembersDocument keeps the tables of members in docs/rpc.md equal to the
// types of package ipc.
func TestMembersDocument(t *testing.T) {
	text, err := os.ReadFile(methodsDocument)
	if err != nil {
		t.Fatal(err)
	}
	types := wireTypes(t)
	marks := regexp.MustCompile(`(?s)<!-- members: (\w+) -->\n.*?<!-- end -->`)
	want := marks.ReplaceAllFunc(text, func(found []byte) []byte {
		name := string(marks.FindSubmatch(found)[1])
		if types[name] == nil {
			t.Errorf("package ipc has no type %s", name)
			return found
		}
		return members(name, types[name])
	})
	compareDocument(t, methodsDocument, want)
}

// TestMembersOfEveryMethodAreDocumented also holds the named reasons against
// the code.
func TestMembersOfEveryMethodAreDocumented(t *testing.T) {
	text, err := os.ReadFile(methodsDocument)
	if err != nil {
		t.Fatal(err)
	}
	for name := range (&Daemon{}).methods() {
		section := regexp.MustCompile(`(?s)\n### ` + name + `\n.*?\nErrors: .*?` + "```jsonrpc\n.*?" + `"method": "` + name + `"`)
		if !section.Match(text) {
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

// members is the table of one type.
func members(name string, s *ast.StructType) []byte {
	var b bytes.Buffer
	asked := strings.HasSuffix(name, "Params") || name == "Policy" || name == "Terms" || name == "BatchItem"
	column := "always there"
	if asked {
		column = "required"
	}
	fmt.Fprintf(&b, "<!-- members: %s -->\n| `%s` | type | %s | |\n|---|---|---|---|\n", name, name, column)
	for _, f := range s.Fields.List {
		tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json")
		member, options, _ := strings.Cut(tag, ",")
		always := "yes"
		if options == "omitempty" {
			always = ""
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", member, wireName(f.Type), always, comment(f.Names[0].Name, member, f.Doc.Text()))
	}
	b.WriteString("<!-- end -->")
	return b.Bytes()
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
	return strings.ReplaceAll(text, "|", "\\|")
}

// wireWords are names of fields that comments use, as they are on the wire.
func wireWords() map[string]string {
	return map[string]string{"WalletID": "walletId", "Address": "address", "ExternalID": "externalId", "RequestID": "requestId",
		"FrozenAt": "frozenAt", "FrozenBy": "frozenBy", "DeletedAt": "deletedAt", "MaxValue": "maxValue", "MaxCost": "maxCost",
		"PCRs": "pcrs", "PCRProfile": "pcrProfile", "Accounts": "accounts", "Raw": "raw", "Hash": "hash"}
}

func wireName(e ast.Expr) string {
	switch v := e.(type) {
	case *ast.StarExpr:
		return wireName(v.X)
	case *ast.ArrayType:
		return "array of " + wireName(v.Elt)
	case *ast.SelectorExpr:
		return "object"
	case *ast.Ident:
		names := map[string]string{"Hex": "bytes", "Secret": "PIN", "Time": "time", "bool": "boolean", "string": "string",
			"int": "integer", "uint32": "integer"}
		if name := names[v.Name]; name != "" {
			return name
		}
		return "`" + v.Name + "`"
	}
	return "?"
}
