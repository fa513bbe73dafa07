package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	main "github.com/sigild/sigild/cmd/sigilctl"
)

// Lines of unit files whose secrets a support bundle must not have.
var secretUnitLines = []string{
	"Environment=AWS_SECRET_ACCESS_KEY=sEcReT",
	"Environment = AWS_SECRET_ACCESS_KEY=sEcReT",
	"  \tEnvironment=\"AWS_SECRET_ACCESS_KEY=sEcReT\"",
	"ENVIRONMENT=A=sEcReT",
	"#Environment=AWS_SECRET_ACCESS_KEY=sEcReT",
	"  ; Environment=AWS_SECRET_ACCESS_KEY=sEcReT",
	"# the PIN is sEcReT",
	"Environment=A=1 \\\n  B=sEcReT",
	"Environment=A=1 \\\n# a comment in between\n  B=sEcReT \\\n;another\nC=sEcReT",
	"Environment=A=1 \\\n# one that ends so: \\\nB=sEcReT",
	"SetCredential=sigild.token-pin:sEcReT",
	"SetCredentialEncrypted=sigild.token-pin: \\\n        sEcReT \\\n        sEcReT",
	"ExecStart=/usr/bin/env AWS_SECRET_ACCESS_KEY=sEcReT /usr/sbin/sigild run",
	"ExecStart=AWS=sEcReT",
	"ExecStartPre=-+/bin/sh -c 'SECRET=sEcReT exec x'",
	"ExecStart=\\\n  /usr/bin/env A=sEcReT",
	"ExecStart=/usr/sbin/sigild run \\\n --pin sEcReT",
	"StandardInputText=sEcReT",
	"X-Note=sEcReT",
	"a line that is none: sEcReT",
}

func TestUnitFilesAreRedacted(t *testing.T) {
	const begin, end = "# /etc/systemd/system/sigild.service\n[Service]\n", "Restart=always\n"
	for _, text := range secretUnitLines {
		got := string(main.RedactUnit([]byte(begin + text + "\n" + end)))
		if strings.Contains(got, "sEcReT") || !strings.HasPrefix(got, begin) || !strings.HasSuffix(got, end) {
			t.Errorf("%q becomes %q", text, got)
		}
	}
	// What goes on at a file's end does not hide the next file.
	got := string(main.RedactUnit([]byte("Environment=A=sEcReT \\\n# /etc/systemd/system/sigild.socket\n[Socket]\n")))
	if !strings.Contains(got, "[Socket]") || strings.Contains(got, "sEcReT") {
		t.Errorf("the next file: %q", got)
	}
}

// What the package brings is all there, but for comments and the arguments of
// programs.
func TestOwnUnitsAreShown(t *testing.T) {
	for _, file := range []string{"sigild.service", "sigild.socket"} {
		text, err := os.ReadFile(filepath.Join("../../systemd", file))
		if err != nil {
			t.Fatal(err)
		}
		got := string(main.RedactUnit(text))
		for line := range strings.Lines(string(text)) {
			program := strings.HasPrefix(line, "ExecReload=") || strings.HasPrefix(line, "ExecStopPost=")
			if !program && !strings.HasPrefix(line, "#") && !strings.Contains(got, line) {
				t.Errorf("%s: %q is left out", file, line)
			}
		}
	}
}

func TestConfigurationIsRedacted(t *testing.T) {
	const begin, end = "[token]\nmodule = \"/m.so\"\n", "\nsessions = 4\n"
	for _, text := range []string{
		`pin = "sEcReT"`, `  "pin"='sEcReT'`, `token = { label = "wallets", pin = "sEcReT" }`, `PIN = sEcReT`, "pin = ['sEcReT']",
		`# pin = "sEcReT"`, `label = "wallets" # the PIN is sEcReT`, `label = "a # b" # sEcReT`, `label = "a \" b" # sEcReT`, `label = 'a\' # sEcReT`,
		"pin = \"\"\"\nsEcReT\nsEcReT\"\"\"", "pin = '''sEcReT\nsEcReT\n'''", `endpoint = "https://user:sEcReT@kms.example.com"`,
	} {
		got := string(main.RedactConfig([]byte(begin + text + end)))
		if strings.Contains(got, "sEcReT") || !strings.HasPrefix(got, begin) || !strings.HasSuffix(got, end) {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}
