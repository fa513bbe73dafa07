package config

import (
	"reflect"
	"slices"
)

// Changed names the keys whose values differ, as "section.key", in the order of
// the structs.
func Changed(a, b *Config) []string {
	var keys []string
	visit(reflect.ValueOf(a).Elem(), "", func(key string, v reflect.Value) {
		if other := find(reflect.ValueOf(b).Elem(), key); !reflect.DeepEqual(v.Interface(), other.Interface()) {
			keys = append(keys, key)
		}
	})
	return keys
}

// With returns a copy of c that has the values of other for some keys.
func (c *Config) With(other *Config, keys []string) *Config {
	mixed := *c
	visit(reflect.ValueOf(&mixed).Elem(), "", func(key string, v reflect.Value) {
		if slices.Contains(keys, key) {
			v.Set(find(reflect.ValueOf(other).Elem(), key))
		}
	})
	return &mixed
}

// Keys lists all keys.
func Keys() []string {
	var keys []string
	visit(reflect.ValueOf(new(Config)).Elem(), "", func(key string, _ reflect.Value) { keys = append(keys, key) })
	return keys
}

// visit shows every value that is not a section.
func visit(section reflect.Value, prefix string, show func(key string, v reflect.Value)) {
	for n := range section.NumField() {
		key := prefix + section.Type().Field(n).Tag.Get("toml")
		if v := section.Field(n); v.Kind() == reflect.Struct {
			visit(v, key+".", show)
		} else {
			show(key, v)
		}
	}
}

func find(section reflect.Value, key string) (found reflect.Value) {
	visit(section, "", func(k string, v reflect.Value) {
		if k == key {
			found = v
		}
	})
	return found
}
