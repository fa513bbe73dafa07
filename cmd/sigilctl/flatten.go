package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

const (
	// maxLines is how many values of a payload people are shown.
	maxLines = 200
	// maxValueShown is how much of one value, in bytes.
	maxValueShown = 2 * maxData
)

// flatten adds a line for each value inside a JSON value, in the order of the
// text: "message.to.name: Bob". It says how many it left out.
func flatten(s *sheet, path string, raw json.RawMessage) {
	if len(raw) == 0 || !json.Valid(raw) {
		return
	}
	f := &flattener{sheet: s, decoder: json.NewDecoder(bytes.NewReader(raw))}
	f.decoder.UseNumber()
	f.value(path)
	if f.hidden > 0 {
		s.addf(path, "NOT SHOWN: %d more values", f.hidden)
	}
}

type flattener struct {
	sheet   *sheet
	decoder *json.Decoder
	lines   int
	hidden  int
}

// value reads the next value, which is complete: flatten checked it.
func (f *flattener) value(path string) {
	token, err := f.decoder.Token()
	if err != nil {
		return
	}
	switch v := token.(type) {
	case json.Delim:
		f.inside(path, v)
	case string:
		f.line(path, v)
	case nil:
		f.line(path, "null")
	default:
		f.line(path, fmt.Sprint(v))
	}
}

func (f *flattener) inside(path string, begin json.Delim) {
	for n := 0; f.decoder.More(); n++ {
		name := "[" + strconv.Itoa(n) + "]"
		if begin == '{' {
			key, err := f.decoder.Token()
			if err != nil {
				return
			}
			name = fmt.Sprintf(".%v", key)
		}
		f.value(path + name)
	}
	_, _ = f.decoder.Token() // the end, which is there
}

func (f *flattener) line(path, text string) {
	if f.lines == maxLines {
		f.hidden++
		return
	}
	f.lines++
	if len(text) > maxValueShown {
		cut := maxValueShown
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = fmt.Sprintf("%s and more (%d bytes)", text[:cut], len(text))
	}
	if text == "" {
		text = `""`
	}
	f.sheet.add(path, text)
}
