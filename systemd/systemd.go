// Package systemd holds the units of sigild and what belongs to them: its users
// (sysusers.d), its folders (tmpfiles.d), drop-ins for kinds of tokens and
// networks, the alert rules and the dashboard. The Debian package installs
// them; the tests here check them with systemd's own tools.
package systemd
