package daemon

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"github.com/sigild/sigild/ipc"
)

// openRPCVersion is the version of the OpenRPC specification that the document
// follows.
const openRPCVersion = "1.3.2"

// openRPCDocument is the answer of rpc.discover.
type openRPCDocument struct {
	OpenRPC    string            `json:"openrpc"`
	Info       openRPCInfo       `json:"info"`
	Methods    []openRPCMethod   `json:"methods"`
	Components openRPCComponents `json:"components"`
}

type openRPCInfo struct {
	Title       string `json:"title"`
	Description string `json:"description"`
	// Version is that of the API, not of the program.
	Version string         `json:"version"`
	License openRPCLicense `json:"license"`
}

type openRPCLicense struct {
	Name string `json:"name"`
}

type openRPCMethod struct {
	Name           string              `json:"name"`
	Summary        string              `json:"summary"`
	ParamStructure string              `json:"paramStructure"`
	Params         []openRPCDescriptor `json:"params"`
	Result         openRPCDescriptor   `json:"result"`
}

type openRPCDescriptor struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Required    bool   `json:"required,omitempty"`
	Schema      schema `json:"schema"`
}

type openRPCComponents struct {
	Schemas map[string]schema `json:"schemas"`
}

// OpenRPC returns the OpenRPC document of every method that the socket answers,
// indented. It is the same for every installation.
func OpenRPC() ([]byte, error) {
	text, err := json.MarshalIndent(newOpenRPC(), "", "  ")
	return append(text, '\n'), err
}

// newOpenRPC describes what is registered: both come from the same tables.
func newOpenRPC() *openRPCDocument {
	doc := &openRPCDocument{OpenRPC: openRPCVersion, Info: openRPCInfo{Title: "sigild",
		Description: "Wallet keys inside a PKCS#11 token: JSON-RPC 2.0 on a Unix socket.",
		Version:     ipc.APIVersion, License: openRPCLicense{Name: "Apache-2.0"}}}
	schemas := schemaSet{}
	for _, m := range descriptions() {
		doc.Methods = append(doc.Methods, m.openRPC(schemas))
	}
	doc.Components.Schemas = schemas
	return doc
}

// descriptions are those of all methods, by their names.
func descriptions() []description {
	var list []description
	for _, m := range walletMethods() {
		list = append(list, m.description)
	}
	for _, m := range clientMethods() {
		list = append(list, m.description)
	}
	slices.SortFunc(list, func(a, b description) int { return strings.Compare(a.name, b.name) })
	return list
}

// description is what the document says of one method.
type description struct {
	name, summary string
	params        []parameter
	result        reflect.Type
}

func (m description) openRPC(schemas schemaSet) openRPCMethod {
	out := openRPCMethod{Name: m.name, Summary: m.summary, ParamStructure: "by-position", Params: []openRPCDescriptor{},
		Result: openRPCDescriptor{Name: "result", Schema: schemas.of(m.result)}}
	for _, p := range m.params {
		out.Params = append(out.Params, openRPCDescriptor{Name: p.name, Description: p.about,
			Required: !p.optional, Schema: schemas.of(p.kind)})
	}
	return out
}
