package hsm

// #cgo linux LDFLAGS: -ldl
// #include <stdlib.h>
// #include "native.h"
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/daemon/wipe"
)

type (
	sessionHandle = pkcs11.SessionHandle
	objectHandle  = pkcs11.ObjectHandle
)

// native calls the functions of a module that carry secrets or nested
// templates. It is a second reference to the library that the wrapper library
// loaded: dlopen counts references, so both share one instance and its log-in.
type native struct{ m *C.struct_p11_module }

func loadNative(path string) (*native, error) {
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	var message [256]C.char
	m := C.p11_load(cpath, &message[0], C.size_t(len(message)))
	if m == nil {
		return nil, fmt.Errorf("hsm: cannot load the PKCS#11 module %s: %s", path, C.GoString(&message[0]))
	}
	return &native{m: m}, nil
}

func (n *native) unload() {
	C.p11_unload(n.m)
	n.m = nil
}

// quietly runs a function of the module. Whatever it left of secrets in registers is
// erased before a signal, such as the scheduler's, can have the kernel store them.
func quietly(function func() C.p11_ulong) (rv C.p11_ulong) {
	wipe.Quiet(func() { rv = function() })
	return rv
}

// result turns a CK_RV into an error.
func result(function string, rv C.p11_ulong) error {
	if rv == pkcs11.CKR_OK {
		return nil
	}
	return newError(function, uint(rv))
}

// pointer returns the address of b's bytes, or nil when there are none.
func pointer(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

func (n *native) login(s sessionHandle, pin *block) error {
	rv := quietly(func() C.p11_ulong { return C.p11_login(n.m, C.p11_ulong(s), pin.base, C.p11_ulong(pin.size)) })
	return result("C_Login", rv)
}

func (n *native) random(s sessionHandle, out []byte) error {
	rv := quietly(func() C.p11_ulong {
		return C.p11_random(n.m, C.p11_ulong(s), pointer(out), C.p11_ulong(len(out)))
	})
	return result("C_GenerateRandom", rv)
}

func (n *native) seed(s sessionHandle, seed *block) error {
	rv := quietly(func() C.p11_ulong {
		return C.p11_seed(n.m, C.p11_ulong(s), seed.base, C.p11_ulong(seed.size))
	})
	return result("C_SeedRandom", rv)
}

func (n *native) createObject(s sessionHandle, t template) (objectHandle, error) {
	m, attrs, count := t.marshal()
	defer m.free()
	var h C.p11_ulong
	rv := quietly(func() C.p11_ulong {
		return C.p11_create(n.m, C.p11_ulong(s), attrs, count, &h)
	})
	return objectHandle(h), result("C_CreateObject", rv)
}

func (n *native) generateKey(s sessionHandle, mech uint, t template) (objectHandle, error) {
	m, attrs, count := t.marshal()
	defer m.free()
	var h C.p11_ulong
	rv := quietly(func() C.p11_ulong {
		return C.p11_generate_key(n.m, C.p11_ulong(s), C.p11_ulong(mech), attrs, count, &h)
	})
	return objectHandle(h), result("C_GenerateKey", rv)
}

// pair is the two handles of a key pair.
type pair struct{ public, private objectHandle }

func (n *native) generateKeyPair(s sessionHandle, mech uint, public, private template) (pair, error) {
	pub, pubAttrs, pubCount := public.marshal()
	defer pub.free()
	priv, privAttrs, privCount := private.marshal()
	defer priv.free()
	var h [2]C.p11_ulong
	rv := quietly(func() C.p11_ulong {
		return C.p11_generate_pair(n.m, C.p11_ulong(s), C.p11_ulong(mech),
			pubAttrs, pubCount, privAttrs, privCount, &h[0])
	})
	return pair{objectHandle(h[0]), objectHandle(h[1])}, result("C_GenerateKeyPair", rv)
}

// sign runs C_SignInit and C_Sign and returns the bytes written to out. begun
// reports whether the operation was started, and so may still be active after
// an error.
func (n *native) sign(s sessionHandle, mech uint, key objectHandle, data, out []byte) (written int, begun bool, err error) {
	size, started := C.p11_ulong(len(out)), C.int(0)
	rv := quietly(func() C.p11_ulong {
		return C.p11_sign(n.m, C.p11_ulong(s), C.p11_ulong(mech), C.p11_ulong(key),
			pointer(data), C.p11_ulong(len(data)), pointer(out), &size, &started)
	})
	return int(size), started != 0, result(operation(started, "C_Sign"), rv)
}

func operation(started C.int, name string) string {
	if started == 0 {
		return name + "Init"
	}
	return name
}

// gcm runs one AES-GCM encryption or decryption with a 16-byte tag at the end
// of the ciphertext and no associated data.
func (n *native) gcm(encrypt bool, s sessionHandle, key objectHandle, nonce, data, out []byte) (written int, begun bool, err error) {
	size, started := C.p11_ulong(len(out)), C.int(0)
	mode, name := C.int(0), "C_Decrypt"
	if encrypt {
		mode, name = 1, "C_Encrypt"
	}
	rv := quietly(func() C.p11_ulong {
		return C.p11_gcm(n.m, mode, C.p11_ulong(s), C.p11_ulong(key), pointer(nonce), C.p11_ulong(len(nonce)),
			pointer(data), C.p11_ulong(len(data)), pointer(out), &size, &started)
	})
	return int(size), started != 0, result(operation(started, name), rv)
}

// maxWrapped bounds a wrapped key. Wrapped EC keys and 64-byte secrets take
// some 70 to 200 bytes, whatever the mechanism.
const maxWrapped = 2048

// wrapKey returns the ciphertext of a key. One call with enough room avoids the
// length query, for which some tokens do the whole work twice.
func (n *native) wrapKey(s sessionHandle, mech uint, wrapping, key objectHandle) ([]byte, error) {
	out := make([]byte, maxWrapped)
	size := C.p11_ulong(len(out))
	rv := quietly(func() C.p11_ulong {
		return C.p11_wrap(n.m, C.p11_ulong(s), C.p11_ulong(mech), C.p11_ulong(wrapping),
			C.p11_ulong(key), pointer(out), &size)
	})
	if err := result("C_WrapKey", rv); err != nil {
		clear(out)
		return nil, err
	}
	if size == 0 || size > maxWrapped {
		clear(out)
		return nil, fmt.Errorf("hsm: C_WrapKey reports %d bytes: %w", uint(size), ErrTokenAnswer)
	}
	return out[:size:size], nil
}

func (n *native) unwrapKey(s sessionHandle, mech uint, unwrapping objectHandle, wrapped []byte, t template) (objectHandle, error) {
	m, attrs, count := t.marshal()
	defer m.free()
	var h C.p11_ulong
	rv := quietly(func() C.p11_ulong {
		return C.p11_unwrap(n.m, C.p11_ulong(s), C.p11_ulong(mech), C.p11_ulong(unwrapping),
			pointer(wrapped), C.p11_ulong(len(wrapped)), attrs, count, &h)
	})
	return objectHandle(h), result("C_UnwrapKey", rv)
}
