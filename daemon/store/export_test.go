package store

import "go.etcd.io/bbolt"

// OpenWith opens a database as a program of another schema does, whose
// migrations start at the schemas that are their keys.
func OpenWith(path string, schema uint64, migrations map[uint64]func(*bbolt.Tx) error) (*Store, error) {
	l := layout{schema: schema}
	for from, apply := range migrations {
		l.migrations = append(l.migrations, migration{From: from, Apply: apply})
	}
	return openAs(path, false, l)
}

// CheckLayout reports an error if a schema has no way to the current one.
func CheckLayout() error {
	_, err := current().way(1)
	return err
}
