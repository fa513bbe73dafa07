package eth

import (
	"slices"
	"strings"
)

// fields are the members of one JSON object, checked to be among the known
// ones. Absent ones, and at a payload's root those that are null, are not in it.
type fields map[string]value

// exactFields reads an object whose members are all required and never null.
func exactFields(v value, names ...string) (fields, error) {
	f, err := knownFields(v, false, names)
	if err != nil {
		return nil, err
	}
	return f, f.require(names...)
}

// rootFields reads a payload's outermost object, where null means absent.
func rootFields(v value, names []string) (fields, error) {
	return knownFields(v, true, names)
}

func knownFields(v value, nullIsAbsent bool, names []string) (fields, error) {
	if v.kind != object {
		return nil, problem("must be an object, not %s", v.kind)
	}
	known := make(fields, len(v.members))
	for _, m := range v.members {
		if !slices.Contains(names, m.name) {
			return nil, at(m.name, problem("is not a known field"))
		}
		if m.value.kind != null || !nullIsAbsent {
			known[m.name] = m.value
		}
	}
	return known, nil
}

func (f fields) has(name string) bool {
	_, given := f[name]
	return given
}

// hasAny returns the first of names that is given.
func (f fields) hasAny(names ...string) (name string, given bool) {
	for _, name := range names {
		if f.has(name) {
			return name, true
		}
	}
	return "", false
}

// require returns an error that names every field missing of names.
func (f fields) require(names ...string) error {
	var missing []string
	for _, name := range names {
		if !f.has(name) {
			missing = append(missing, name)
		}
	}
	switch len(missing) {
	case 0:
		return nil
	case 1:
		return at(missing[0], problem("is required"))
	default:
		return problem("lacks the required fields %s", strings.Join(missing, ", "))
	}
}

// read applies parse to the field called name, or returns the zero value if it
// is absent.
func read[T any](f fields, name string, parse func(value) (T, error)) (T, error) {
	v, given := f[name]
	if !given {
		var zero T
		return zero, nil
	}
	parsed, err := parse(v)
	if err != nil {
		return parsed, at(name, err)
	}
	return parsed, nil
}

// each reads an array of at most limit elements.
func each[T any](v value, limit int, parse func(value) (T, error)) ([]T, error) {
	if v.kind != list {
		return nil, problem("must be an array, not %s", v.kind)
	}
	if len(v.items) > limit {
		return nil, problem("has more than %d elements", limit)
	}
	parsed := make([]T, len(v.items))
	for i, item := range v.items {
		element, err := parse(item)
		if err != nil {
			return nil, atIndex(i, err)
		}
		parsed[i] = element
	}
	return parsed, nil
}
