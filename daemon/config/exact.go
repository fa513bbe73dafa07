package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/pelletier/go-toml/v2"
)

// exact refuses what the decoder forgives: a key in another case, of which two
// could contradict each other, and a duration without a unit, which would count
// nanoseconds.
func exact(data []byte) error {
	var table map[string]any
	if err := toml.Unmarshal(data, &table); err != nil {
		return explain(err)
	}
	return exactTable("", table, reflect.TypeFor[Config]())
}

func exactTable(prefix string, table map[string]any, t reflect.Type) error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(table)) {
		errs = append(errs, exactValue(prefix+key, key, table[key], t))
	}
	return errors.Join(errs...)
}

func exactValue(path, key string, value any, t reflect.Type) error {
	for i := range t.NumField() {
		field := t.Field(i)
		if field.Tag.Get("toml") != key {
			continue
		}
		if inner, ok := value.(map[string]any); ok && field.Type.Kind() == reflect.Struct {
			return exactTable(path+".", inner, field.Type)
		}
		if _, text := value.(string); !text && field.Type == reflect.TypeFor[Duration]() {
			return fmt.Errorf("%s: must be text with a unit, such as \"10s\"", path)
		}
		return nil
	}
	return fmt.Errorf("unknown key %s: keys are written in lower case", path)
}
