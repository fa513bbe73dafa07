package daemon

import (
	"encoding/json"
	"reflect"
	"strings"

	"github.com/sigild/sigild/ipc"
)

// schema is a JSON Schema (draft 7), as OpenRPC takes it.
type schema map[string]any

// schemaSet collects the schemas of the structs, by their names.
type schemaSet map[string]schema

// of gives the schema of a type of the wire. A type that it does not know makes
// it panic: the types are ours, and a test asks for all of them.
func (set schemaSet) of(t reflect.Type) schema {
	if s := named(t); s != nil {
		return s
	}
	switch t.Kind() {
	case reflect.Pointer:
		return set.of(t.Elem())
	case reflect.String:
		return schema{"type": "string"}
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Int:
		return schema{"type": "integer"}
	case reflect.Uint32:
		return schema{"type": "integer", "minimum": 0, "maximum": 1<<32 - 1}
	case reflect.Slice:
		return schema{"type": "array", "items": set.of(t.Elem())}
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": set.of(t.Elem())}
	case reflect.Struct:
		return set.object(t)
	}
	panic("no schema for " + t.String())
}

// named gives the schemas of types that have their own form on the wire. Their
// titles are what docs/rpc.md calls them.
func named(t reflect.Type) schema {
	switch t {
	case reflect.TypeFor[ipc.Hex]():
		return text("bytes", "^0x([0-9a-fA-F]{2})*$", "bytes in hexadecimal")
	case reflect.TypeFor[ipc.Secret]():
		return schema{"title": "PIN", "type": "string", "writeOnly": true, "minLength": 6, "maxLength": 64, "description": "a PIN"}
	case reflect.TypeFor[ipc.Time]():
		return schema{"title": "time", "type": "string", "format": "date-time", "description": "RFC 3339 in UTC, whole seconds"}
	case reflect.TypeFor[json.RawMessage]():
		return schema{"type": "object", "description": "as Ethereum JSON-RPC spells it"}
	case reflect.TypeFor[addressText]():
		return text("address", "^0x[0-9a-fA-F]{40}$", "an address; letters of mixed case must be the checksum of EIP-55")
	case reflect.TypeFor[signatureText]():
		return text("signature", "^0x[0-9a-f]{130}$", "r ‖ s ‖ v, 65 bytes in hexadecimal, where v is 27 or 28; for a block's header 0 or 1")
	case reflect.TypeFor[quantityText]():
		return text("quantity", "^0x(0|[1-9a-f][0-9a-f]*)$", "a number in hexadecimal without leading zeros")
	case reflect.TypeFor[transactionObject]():
		return schema{"type": "object", "required": []string{"from", "nonce"}, "description": "a transaction, in the field names of Ethereum JSON-RPC"}
	case reflect.TypeFor[typedDataObject]():
		return schema{"type": []string{"object", "string"}, "description": "types, primaryType, domain and message, as EIP-712 spells them"}
	case reflect.TypeFor[dataOrObject]():
		return schema{"title": "bytes or object", "type": []string{"string", "object"}, "description": "bytes in hexadecimal, or an object"}
	case reflect.TypeFor[signedResult]():
		return schema{"title": "bytes or object", "description": "the signed transaction's bytes in hexadecimal, or the object with raw and tx where ethereum.sign_transaction_result is \"object\""}
	case reflect.TypeFor[openRPCDocument]():
		return schema{"type": "object", "description": "this document"}
	}
	return nil
}

func text(title, pattern, description string) schema {
	return schema{"title": title, "type": "string", "pattern": pattern, "description": description}
}

// object enters a struct's schema under its name and gives a reference to it.
func (set schemaSet) object(t reflect.Type) schema {
	reference := schema{"$ref": "#/components/schemas/" + t.Name()}
	if set[t.Name()] != nil {
		return reference
	}
	properties := schema{}
	s := schema{"type": "object", "properties": properties}
	set[t.Name()] = s
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" { // what travels sealed only
			continue
		}
		properties[name] = set.of(f.Type)
	}
	if required := requiredMembers(t); len(required) > 0 {
		s["required"] = required
	}
	if strings.HasSuffix(t.Name(), "Params") {
		s["additionalProperties"] = false
	}
	return reference
}

// requiredMembers are those whose tags have neither omitempty nor omitzero: what
// ipc.Decode asks for, and what an answer always has. Where the PIN is no member,
// sealedPin is required too: openPINs asks for it.
func requiredMembers(t reflect.Type) []string {
	var required []string
	sealedOnly := false
	for i := range t.NumField() {
		tags := t.Field(i).Tag
		if _, only := tags.Lookup("sealed"); only {
			sealedOnly = true
			continue
		}
		name, options, _ := strings.Cut(tags.Get("json"), ",")
		optional := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		if !optional || sealedOnly && name == "sealedPin" {
			required = append(required, name)
		}
	}
	return required
}
