package daemon

import (
	"fmt"
	"go/ast"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// rpcDocument makes the heads of the sections of docs/rpc.md from the OpenRPC
// document; only what is said of single members comes from the comments of the
// wire types.
type rpcDocument struct {
	t       *testing.T
	methods map[string]openRPCMethod
	schemas map[string]schema
	types   map[string]*ast.StructType
	shown   map[string]bool // types whose table is above
	out     strings.Builder
}

func newRPCDocument(t *testing.T) *rpcDocument {
	t.Helper()
	doc := newOpenRPC()
	d := &rpcDocument{t: t, methods: map[string]openRPCMethod{}, schemas: doc.Components.Schemas, types: wireTypes(t), shown: map[string]bool{}}
	for _, m := range doc.Methods {
		d.methods[m.Name] = m
	}
	return d
}

// head is the generated beginning of one method's section.
func (d *rpcDocument) head(name string) string {
	d.t.Helper()
	m, found := d.methods[name]
	if !found {
		d.t.Errorf("%s has a section for %s, which is no method", methodsDocument, name)
		return ""
	}
	d.out.Reset()
	fmt.Fprintf(&d.out, "### %s\n\n%s\n\n", name, m.Summary)
	d.params(m)
	d.result(m)
	return d.out.String()
}

// members is the table of a type that is explained apart from the methods.
func (d *rpcDocument) members(name string) string {
	d.t.Helper()
	d.out.Reset()
	d.tables(name, "required")
	return strings.TrimRight(d.out.String(), "\n") + "\n"
}

func (d *rpcDocument) params(m openRPCMethod) {
	switch {
	case len(m.Params) == 0:
		d.out.WriteString("Parameters: none.\n\n")
	case m.Params[0].Schema["$ref"] == nil:
		d.out.WriteString("Parameters:\n\n| parameter | type | required | |\n|---|---|---|---|\n")
		for _, p := range m.Params {
			fmt.Fprintf(&d.out, "| `%s` | %s | %s | %s |\n", p.Name, typeName(p.Schema), yes(p.Required), cell(p.Description))
		}
		d.out.WriteString("\n")
	case len(d.properties(refName(m.Params[0].Schema))) == 0:
		d.out.WriteString("Parameters: an empty object, or none.\n\n")
	default:
		d.object("Parameters", refName(m.Params[0].Schema), "required")
	}
}

func (d *rpcDocument) result(m openRPCMethod) {
	if name := refName(m.Result.Schema); name != "" {
		d.object("Result", name, "always there")
		return
	}
	about, _ := m.Result.Schema["description"].(string)
	if about != "" {
		about = ": " + about
	}
	fmt.Fprintf(&d.out, "Result: %s%s.\n\n", typeName(m.Result.Schema), about)
}

// object shows a struct, or says that it is shown above.
func (d *rpcDocument) object(what, name, column string) {
	if d.shown[name] {
		fmt.Fprintf(&d.out, "%s: `%s`, as above.\n\n", what, name)
		return
	}
	fmt.Fprintf(&d.out, "%s:\n\n", what)
	d.tables(name, column)
}

// tables shows a type, and then those of its members that were not yet shown.
func (d *rpcDocument) tables(name, column string) {
	d.t.Helper()
	var above []string
	for list := []string{name}; len(list) > 0; list = list[1:] {
		if d.shown[list[0]] {
			continue
		}
		for _, part := range d.table(list[0], column) {
			switch {
			case d.shown[part] && !slices.Contains(above, "`"+part+"`"):
				above = append(above, "`"+part+"`")
			case !d.shown[part]:
				list = append(list, part)
			}
		}
	}
	if len(above) > 0 {
		fmt.Fprintf(&d.out, "%s: as above.\n\n", strings.Join(above, ", "))
	}
}

// table shows one type and returns the types that it names.
func (d *rpcDocument) table(name, column string) (parts []string) {
	d.t.Helper()
	d.shown[name] = true
	properties := d.properties(name)
	required, _ := d.schemas[name]["required"].([]string)
	if d.types[name] == nil || len(memberFields(d.types[name])) != len(properties) {
		d.t.Errorf("the type %s of package ipc has not the members of its schema", name)
		return nil
	}
	fmt.Fprintf(&d.out, "| `%s` | type | %s | |\n|---|---|---|---|\n", name, column)
	for _, f := range memberFields(d.types[name]) {
		member, _, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json"), ",")
		s, found := properties[member].(schema)
		if !found {
			d.t.Errorf("the schema of %s has no member %s", name, member)
		}
		fmt.Fprintf(&d.out, "| `%s` | %s | %s | %s |\n", member, typeName(s), yes(slices.Contains(required, member)),
			cell(comment(f.Names[0].Name, member, f.Doc.Text())))
		if part := refName(s); part != "" {
			parts = append(parts, part)
		}
	}
	d.out.WriteString("\n")
	return parts
}

// memberFields leaves out what travels sealed only.
func memberFields(t *ast.StructType) []*ast.Field {
	return slices.DeleteFunc(slices.Clone(t.Fields.List), func(f *ast.Field) bool {
		_, sealed := reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Lookup("sealed")
		return sealed
	})
}

func (d *rpcDocument) properties(name string) schema {
	p, _ := d.schemas[name]["properties"].(schema)
	return p
}

// refName is the type that a schema refers to, also as the element of an array.
func refName(s schema) string {
	if items, is := s["items"].(schema); is {
		return refName(items)
	}
	ref, _ := s["$ref"].(string)
	return strings.TrimPrefix(ref, "#/components/schemas/")
}

// typeName is what the document calls a schema's type.
func typeName(s schema) string {
	items, isArray := s["items"].(schema)
	title, hasTitle := s["title"].(string)
	kinds, several := s["type"].([]string)
	switch {
	case isArray:
		return "array of " + typeName(items)
	case refName(s) != "":
		return "`" + refName(s) + "`"
	case hasTitle:
		return title
	case several:
		return strings.Join(kinds, " or ")
	}
	return fmt.Sprint(s["type"])
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return ""
}

// cell is text for a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", "\\|") }
