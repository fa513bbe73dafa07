// Package config reads the daemon's configuration: one TOML file, strictly. An
// unknown key, a value out of its range, two keys that contradict each other
// and a choice that is unsafe are errors that name the key.
// sigild.example.toml shows every key with its unit and default.
package config
