package ipctest

import (
	"bytes"
	"encoding/json"
	"strings"
)

// width is how long a line of a recorded answer may be before it is broken.
const width = 100

// longText is the longest text that is shown whole.
const longText = 90

// writeValue writes the decoder's next value with its members in their order:
// on one line where that is short enough. What the recorded value leaves open is
// left open again.
func writeValue(b *bytes.Buffer, d *json.Decoder, depth int, recorded any) error {
	if recorded == anyValue {
		var skipped json.RawMessage
		b.WriteString(`"` + anyValue + `"`)
		return d.Decode(&skipped)
	}
	token, err := d.Token()
	if err != nil {
		return err
	}
	if delim, nested := token.(json.Delim); nested {
		return writeNested(b, d, delim, depth, recorded)
	}
	if text, ok := token.(string); ok {
		return writeText(b, text)
	}
	out, err := json.Marshal(token)
	b.Write(out)
	return err
}

func writeText(b *bytes.Buffer, text string) error {
	if len(text) > longText && strings.HasPrefix(text, "0x") {
		text = text[:18] + elision + text[len(text)-8:]
	}
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	err := e.Encode(text)
	b.Truncate(b.Len() - 1) // the newline
	return err
}

func writeNested(b *bytes.Buffer, d *json.Decoder, open json.Delim, depth int, recorded any) error {
	var parts []string
	members, _ := recorded.(map[string]any)
	items, _ := recorded.([]any)
	_, partial := members[elision]
	for n := 0; d.More(); n++ {
		var part bytes.Buffer
		var inner any
		if n < len(items) {
			inner = items[n]
		}
		if open == '{' {
			token, err := d.Token()
			if err != nil {
				return err
			}
			name := token.(string)
			if inner = members[name]; partial && inner == nil {
				var skipped json.RawMessage
				if err := d.Decode(&skipped); err != nil {
					return err
				}
				continue
			}
			if err := writeText(&part, name); err != nil {
				return err
			}
			part.WriteString(": ")
		}
		if err := writeValue(&part, d, depth+1, inner); err != nil {
			return err
		}
		parts = append(parts, part.String())
	}
	if _, err := d.Token(); err != nil {
		return err
	}
	if partial {
		parts = append(parts, `"`+elision+`": "`+anyValue+`"`)
	}
	joinParts(b, parts, open, depth)
	return nil
}

func joinParts(b *bytes.Buffer, parts []string, open json.Delim, depth int) {
	closing := map[json.Delim]byte{'{': '}', '[': ']'}[open]
	line := strings.Join(parts, ", ")
	b.WriteByte(byte(open))
	if len(line)+2*depth <= width && !strings.Contains(line, "\n") {
		b.WriteString(line)
	} else {
		indent := "\n" + strings.Repeat("  ", depth+1)
		b.WriteString(indent + strings.Join(parts, ","+indent) + "\n" + strings.Repeat("  ", depth))
	}
	b.WriteByte(closing)
}
