package daemon_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sigild/sigild"

// allowed is the import table: what each package may import of this project,
// in code that is not a test. "*" is everything below daemon, hsm, tpm and ipc.
var allowed = map[string][]string{
	"cmd/sigild":                    {"daemon", "cmd/internal/ask", "cmd/internal/manual"},
	"cmd/sigilctl":                  {"ipc", "daemon/audit", "daemon/seal", "tpm/quote", "cmd/internal/ask", "cmd/internal/manual"},
	"cmd/internal/ask":              {},
	"cmd/internal/manual":           {},
	"cmd/internal/ask/asktest":      {},
	"ipc":                           {"daemon/channel"},
	"ipc/ethsigner":                 {"ipc"},
	"ipc/ipctest":                   {"ipc", "daemon/channel"},
	"daemon":                        {"*"},
	"daemon/config":                 {},
	"daemon/confine":                {},
	"daemon/wallet":                 {"daemon/seal", "daemon/policy", "daemon/wipe"},
	"daemon/entropy":                {"daemon/wipe"},
	"daemon/entropy/kmstest":        {"daemon/entropy"},
	"daemon/channel":                {"daemon/wipe"},
	"daemon/wipe":                   {},
	"daemon/wipe/wipetest":          {},
	"daemon/seal":                   {"daemon/wipe", "daemon/seal/argon2"},
	"daemon/seal/argon2":            {},
	"daemon/guard":                  {},
	"daemon/store":                  {"daemon/wallet", "daemon/seal"},
	"daemon/eth":                    {},
	"daemon/metrics":                {},
	"daemon/policy":                 {},
	"daemon/audit":                  {},
	"daemon/daemontest":             {"daemon/entropy/kmstest", "tpm/tpmtest", "ipc"},
	"hsm":                           {"daemon/wipe"}, // erases; it has no types and imports nothing of this project
	"hsm/hsmtest":                   {"hsm"},
	"tpm":                           {"daemon/wipe"},
	"tpm/tpmtest":                   {"tpm"},
	"daemon/seal/argon2/argon2test": {},
	"testdata/demo":                 {"daemon/daemontest"},
	"systemd":                       {},
}

// testPackages may be imported by tests, by each other and by the demo only.
var testPackages = []string{"hsm/hsmtest", "tpm/tpmtest", "daemon/entropy/kmstest", "daemon/daemontest",
	"daemon/seal/argon2/argon2test", "daemon/wipe/wipetest", "ipc/ipctest", "cmd/internal/ask/asktest"}

// leavesSecrets may be imported by tests only.
const leavesSecrets = "golang.org/x/crypto/argon2"

type goPackage struct {
	ImportPath string
	Name       string
	Dir        string
	Imports    []string
	CgoFiles   []string
	GoFiles    []string
}

func goList(t *testing.T, patterns ...string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Name,Dir,Imports,CgoFiles,GoFiles"}, patterns...)...)
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.String())
	}
	var list []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func packages(t *testing.T) []goPackage {
	list := goList(t, "./...", "./testdata/demo")
	if len(list) < 15 {
		t.Fatalf("go list found %d packages only", len(list))
	}
	return list
}

func TestImportTable(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		may, known := allowed[name]
		if !known {
			t.Errorf("package %s is not in the import table", name)
			continue
		}
		for _, path := range p.Imports {
			what, own := strings.CutPrefix(path, module+"/")
			if path == leavesSecrets {
				t.Errorf("%s imports %s, which leaves secrets in memory: use daemon/seal/argon2", name, path)
			}
			if !own {
				continue
			}
			if slices.Contains(testPackages, what) && !slices.Contains(testPackages, name) && name != "testdata/demo" {
				t.Errorf("%s imports the test package %s", name, what)
			}
			if !slices.Contains(may, what) && !slices.Contains(may, "*") {
				t.Errorf("%s must not import %s", name, what)
			}
		}
	}
}

func TestCgoIsInHSMOnly(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.CgoFiles) > 0 && p.ImportPath != module+"/hsm" {
			t.Errorf("%s has cgo: %v", p.ImportPath, p.CgoFiles)
		}
	}
}

// sigilctl runs on machines without a C compiler or a token.
func TestClientNeedsNoCgo(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if and .CgoFiles (not .Standard)}}{{.ImportPath}}{{end}}", "./cmd/sigilctl", "./ipc")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if found := strings.Fields(string(out)); len(found) > 0 {
		t.Errorf("sigilctl or ipc depends on cgo in %v", found)
	}
}

func TestTopLevel(t *testing.T) {
	want := []string{"cmd", "daemon", "docs", "hsm", "ipc", "systemd", "testdata", "tpm"}
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && e.Name() != "bin" && e.Name() != "dist" && !slices.Contains(want, e.Name()) {
			t.Errorf("folder %s is not in the layout", e.Name())
		}
	}
}

// Documents name tests as proofs: each is there.
func TestNamedTestsExist(t *testing.T) {
	var tests strings.Builder
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		tests.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	documents, err := filepath.Glob("../docs/*.md")
	if err != nil || len(documents) == 0 {
		t.Fatalf("%d documents, %v", len(documents), err)
	}
	for _, document := range append(documents, "../README.md") {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*`).FindAllString(string(text), -1) {
			if !strings.Contains(tests.String(), "func "+name+"(") {
				t.Errorf("%s names %s, which is no test", document, name)
			}
		}
	}
}

// Repository rules that a reader relies on: package documentation, no init
// functions, no replace directive, no sleeping tests, no skipped ones.
func TestRules(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mod), "\nreplace ") {
		t.Error("go.mod has a replace directive")
	}
	for _, p := range packages(t) {
		documented := false
		for _, name := range append(slices.Clone(p.GoFiles), p.CgoFiles...) {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			documented = documented || f.Doc != nil
			checkFile(t, p.ImportPath+"/"+name, f)
		}
		if !documented {
			t.Errorf("package %s has no package comment", p.ImportPath)
		}
	}
	checkTests(t)
}

func checkFile(t *testing.T, name string, f *ast.File) {
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			t.Errorf("%s has an init function", name)
		}
	}
}

func checkTests(t *testing.T) {
	found := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, "layout_test.go") {
			return err
		}
		found++
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, word := range []string{"time.Sleep(", "t.Skip(", "t.SkipNow("} {
			if bytes.Contains(text, []byte(word)) {
				t.Errorf("%s has %s", path, word)
			}
		}
		return nil
	})
	if err != nil || found == 0 {
		t.Errorf("%d test files, %v", found, err)
	}
}
