package hsm_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/hsm/hsmtest"
)

// The thief is another process. It has the token, its user PIN, the id of the
// wrap key and a wrapped wallet key, and speaks PKCS#11 without this package.
const (
	thiefVariable = "SIGILD_TEST_THIEF"
	mechanismPAD  = 0x210A
)

func TestThiefWithPINAndWrappedKeyGetsNoKey(t *testing.T) {
	if os.Getenv(thiefVariable) != "" {
		thief(t)
		return
	}
	instance := hsmtest.New(t)
	installation := hsmtest.Installation()
	keys := hsmtest.Provision(t, instance.Open(t), installation, 1)
	if keys.Enforcement() != hsm.EnforcedByToken {
		t.Fatalf("enforcement is %q", keys.Enforcement())
	}
	object := newRoot(t, keys)
	wrapped, err := keys.Wrap(t.Context(), hsm.Wrap, object)
	if err != nil {
		t.Fatal(err)
	}
	answers := runThief(t, instance, hsm.KeyID(installation, hsm.Wrap, 1), wrapped)
	if answers["as intended"] != "unwrapped; signs" {
		t.Fatalf("the thief's own method does not work, so its failures prove nothing: %v", answers)
	}
	for _, attempt := range thiefAttempts() {
		if got := answers[attempt.name]; !strings.HasPrefix(got, "refused") {
			t.Errorf("%s: %q", attempt.name, got)
		}
	}
	for _, name := range []string{"read the value", "make it readable", "make it extractable",
		"copy it as extractable", "wrap it again", "decrypt with the wrap key", "let the wrap key decrypt", "agree on a key", "allow another mechanism"} {
		if got := answers[name]; !strings.HasPrefix(got, "refused") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// runThief runs this test in a child process and returns what each attempt
// gave.
func runThief(t *testing.T, instance *hsmtest.Instance, id, wrapped []byte) map[string]string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestThiefWithPINAndWrappedKeyGetsNoKey$", "-test.v")
	loot := fmt.Sprintf("%s %x %x %x", instance.Module, instance.PIN, id, wrapped)
	cmd.Env = append(append(os.Environ(), instance.Env()...), thiefVariable+"="+loot)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the thief failed: %v\n%s", err, out)
	}
	answers := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		if name, answer, ok := strings.Cut(lines.Text(), " => "); ok {
			answers[strings.TrimSpace(name)] = answer
		}
	}
	return answers
}

type thiefAttempt struct {
	name     string
	template []*pkcs11.Attribute
}

// rightTemplate is what the wrap key allows.
func rightTemplate() []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_COPYABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_ALLOWED_MECHANISMS, binary.NativeEndian.AppendUint64(nil, pkcs11.CKM_ECDSA)),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, false),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN_RECOVER, false),
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
		pkcs11.NewAttribute(pkcs11.CKA_DERIVE, false),
	}
}

// changed returns the right template with these attributes in place of its own,
// or without those that have no value.
func changed(attributes ...*pkcs11.Attribute) []*pkcs11.Attribute {
	var out []*pkcs11.Attribute
	for _, a := range rightTemplate() {
		keep := true
		for _, other := range attributes {
			keep = keep && other.Type != a.Type
		}
		if keep {
			out = append(out, a)
		}
	}
	for _, a := range attributes {
		if a.Value != nil {
			out = append(out, a)
		}
	}
	return out
}

func thiefAttempts() []thiefAttempt {
	attr := pkcs11.NewAttribute
	return []thiefAttempt{
		{"not sensitive", changed(attr(pkcs11.CKA_SENSITIVE, false))},
		{"sensitive left out", changed(attr(pkcs11.CKA_SENSITIVE, nil))},
		{"extractable", changed(attr(pkcs11.CKA_EXTRACTABLE, true))},
		{"extractable left out", changed(attr(pkcs11.CKA_EXTRACTABLE, nil))},
		{"not sensitive and extractable", changed(attr(pkcs11.CKA_SENSITIVE, false), attr(pkcs11.CKA_EXTRACTABLE, true))},
		{"on the token", changed(attr(pkcs11.CKA_TOKEN, true))},
		{"public", changed(attr(pkcs11.CKA_PRIVATE, false))},
		{"for key agreement", changed(attr(pkcs11.CKA_DERIVE, true))},
		{"for any mechanism", changed(attr(pkcs11.CKA_ALLOWED_MECHANISMS, nil))},
		{"copyable", changed(attr(pkcs11.CKA_COPYABLE, true))},
		{"as a generic secret", changed(attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET))},
		{"as a readable generic secret", []*pkcs11.Attribute{
			attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
			attr(pkcs11.CKA_SENSITIVE, false), attr(pkcs11.CKA_EXTRACTABLE, true)}},
		{"as an RSA key", changed(attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA))},
		{"with twice the attribute", append(rightTemplate(), attr(pkcs11.CKA_SENSITIVE, false))},
	}
}

// loot is what the thief works with.
type loot struct {
	p       *pkcs11.Ctx
	session pkcs11.SessionHandle
	wrap    pkcs11.ObjectHandle
	blob    []byte
}

// thief runs in the child process and prints one line per attempt.
func thief(t *testing.T) {
	l := breakIn(t)
	defer l.p.Destroy()
	defer func() { _ = l.p.Finalize() }()
	for _, attempt := range thiefAttempts() {
		if h, err := l.unwrap(attempt.template); err != nil {
			fmt.Printf("%s => refused: %v\n", attempt.name, err)
		} else {
			fmt.Printf("%s => unwrapped\n", attempt.name)
			_ = l.p.DestroyObject(l.session, h)
		}
	}
	h, err := l.unwrap(rightTemplate())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("as intended => unwrapped; %s\n", l.sign(h))
	for name, try := range l.onTheObject(h) {
		if err := try(); err != nil {
			fmt.Printf("%s => refused: %v\n", name, err)
		} else {
			fmt.Printf("%s => it works\n", name)
		}
	}
}

func breakIn(t *testing.T) loot {
	t.Helper()
	var module, pin, id, blob string
	if _, err := fmt.Sscan(os.Getenv(thiefVariable), &module, &pin, &id, &blob); err != nil {
		t.Fatal(err)
	}
	l := loot{p: pkcs11.New(module), blob: unhex(t, blob)}
	if err := l.p.Initialize(); err != nil {
		t.Fatal(err)
	}
	slots, err := l.p.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	if l.session, err = l.p.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION); err != nil {
		t.Fatal(err)
	}
	if err = l.p.Login(l.session, pkcs11.CKU_USER, string(unhex(t, pin))); err != nil {
		t.Fatal(err)
	}
	if err = l.p.FindObjectsInit(l.session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, unhex(t, id))}); err != nil {
		t.Fatal(err)
	}
	found, _, err := l.p.FindObjects(l.session, 2)
	if err != nil || len(found) != 1 {
		t.Fatalf("the wrap key: %d found, %v", len(found), err)
	}
	l.wrap = found[0]
	if err = l.p.FindObjectsFinal(l.session); err != nil {
		t.Fatal(err)
	}
	return l
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mechanism(m uint) []*pkcs11.Mechanism { return []*pkcs11.Mechanism{pkcs11.NewMechanism(m, nil)} }

func (l loot) unwrap(template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	return l.p.UnwrapKey(l.session, mechanism(mechanismPAD), l.wrap, l.blob, template)
}

func (l loot) sign(h pkcs11.ObjectHandle) string {
	if err := l.p.SignInit(l.session, mechanism(pkcs11.CKM_ECDSA), h); err != nil {
		return err.Error()
	}
	if _, err := l.p.Sign(l.session, make([]byte, 32)); err != nil {
		return err.Error()
	}
	return "signs"
}

// onTheObject lists what is tried with the unwrapped key, and with the wrap key
// itself.
func (l loot) onTheObject(h pkcs11.ObjectHandle) map[string]func() error {
	set := func(object pkcs11.ObjectHandle, kind uint, value bool) func() error {
		return func() error {
			return l.p.SetAttributeValue(l.session, object, []*pkcs11.Attribute{pkcs11.NewAttribute(kind, value)})
		}
	}
	return map[string]func() error{
		"read the value": func() error {
			_, err := l.p.GetAttributeValue(l.session, h, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)})
			return err
		},
		"make it readable":    set(h, pkcs11.CKA_SENSITIVE, false),
		"make it extractable": set(h, pkcs11.CKA_EXTRACTABLE, true),
		"copy it as extractable": func() error {
			_, err := l.p.CopyObject(l.session, h, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true)})
			return err
		},
		"wrap it again": func() error {
			_, err := l.p.WrapKey(l.session, mechanism(mechanismPAD), l.wrap, h)
			return err
		},
		"agree on a key": func() error {
			_ = set(h, pkcs11.CKA_DERIVE, true)()
			return l.agree(h)
		},
		"allow another mechanism": func() error {
			return l.p.SetAttributeValue(l.session, h, []*pkcs11.Attribute{pkcs11.NewAttribute(
				pkcs11.CKA_ALLOWED_MECHANISMS, binary.NativeEndian.AppendUint64(nil, pkcs11.CKM_ECDH1_DERIVE))})
		},
		"let the wrap key decrypt": set(l.wrap, pkcs11.CKA_DECRYPT, true),
		"decrypt with the wrap key": func() error {
			return l.p.DecryptInit(l.session, mechanism(pkcs11.CKM_AES_ECB), l.wrap)
		},
	}
}

// agree runs ECDH with the generator, which would give x(d*G) and, with chosen
// points, an oracle for d.
func (l loot) agree(h pkcs11.ObjectHandle) error {
	generator, err := hex.DecodeString("0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8")
	if err != nil {
		return nil
	}
	params := pkcs11.NewECDH1DeriveParams(pkcs11.CKD_NULL, nil, generator)
	_, err = l.p.DeriveKey(l.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDH1_DERIVE, params)}, h,
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
		})
	return err
}
