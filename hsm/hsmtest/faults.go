package hsmtest

import (
	_ "embed" // for the source of the module
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

//go:embed testdata/faulty.c
var faultySource []byte

const (
	faultsVariable = "SIGILD_TEST_FAULTS"
	moduleVariable = "SIGILD_TEST_MODULE"
)

// Faults makes single functions of the module fail or hang, for what a healthy
// token cannot be made to do. Functions are named as in PKCS#11: "C_Sign".
type Faults struct {
	t   testing.TB
	dir string
}

// newFaults builds the module, which needs a C compiler like every cgo package,
// and makes it the instance's.
func newFaults(t testing.TB, i *Instance) *Faults {
	t.Helper()
	f := &Faults{t: t, dir: filepath.Join(i.Dir, "faults")}
	source, module := filepath.Join(i.Dir, "faulty.c"), filepath.Join(i.Dir, "faulty.so")
	if err := errors.Join(os.Mkdir(f.dir, 0o700), os.WriteFile(source, faultySource, 0o600)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-O1", "-o", module, source, "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("build the faulty module: %v: %s", err, out)
	}
	setEnv(t, faultsVariable, f.dir)
	setEnv(t, moduleVariable, i.Module)
	i.Module = module
	return f
}

func (f *Faults) path(function, suffix string) string {
	return filepath.Join(f.dir, strings.TrimPrefix(function, "C_")+suffix)
}

func (f *Faults) write(function, suffix string, code uint) {
	f.t.Helper()
	// Written aside and renamed: the module must never read half a code.
	path := f.path(function, suffix)
	text := []byte(strconv.FormatUint(uint64(code), 10))
	if err := errors.Join(os.WriteFile(path+".new", text, 0o600), os.Rename(path+".new", path)); err != nil {
		f.t.Fatal(err)
	}
}

// Fail makes the function return the code without doing anything, until Clear.
func (f *Faults) Fail(function string, code uint) { f.write(function, "", code) }

// FailOnce does so for one call.
func (f *Faults) FailOnce(function string, code uint) { f.write(function, ".once", code) }

// FailAfter makes the function do its work and then return the code, until
// Clear.
func (f *Faults) FailAfter(function string, code uint) { f.write(function, ".after", code) }

// Hang makes the function wait until Clear, and then do its work.
func (f *Faults) Hang(function string) { f.write(function, ".hang", 0) }

// Clear removes the faults of a function.
func (f *Faults) Clear(function string) {
	f.t.Helper()
	for _, suffix := range []string{"", ".once", ".after", ".hang"} {
		if err := os.Remove(f.path(function, suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.t.Fatal(err)
		}
	}
}

// Calls returns how often the function was called.
func (f *Faults) Calls(function string) int {
	f.t.Helper()
	info, err := os.Stat(f.path(function, ".calls"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return int(info.Size())
}
