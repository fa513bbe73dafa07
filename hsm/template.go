package hsm

// #include <stdlib.h>
// #include "native.h"
import "C"

import (
	"encoding/binary"
	"slices"
	"unsafe"

	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/daemon/wipe"
)

// attribute is one entry of a template: a value, or for CKA_UNWRAP_TEMPLATE
// nested entries.
type attribute struct {
	kind   uint
	value  []byte
	nested template
}

// template is a list of attributes in the order in which the token sees them.
type template []attribute

func boolean(kind uint, v bool) attribute {
	b := byte(0) // CK_FALSE
	if v {
		b = 1 // CK_TRUE
	}
	return attribute{kind: kind, value: []byte{b}}
}

func number(kind, v uint) attribute {
	return attribute{kind: kind, value: ulong(nil, v)}
}

func raw(kind uint, v []byte) attribute { return attribute{kind: kind, value: v} }

func mechanisms(list ...uint) attribute {
	var b []byte
	for _, m := range list {
		b = ulong(b, m)
	}
	return attribute{kind: pkcs11.CKA_ALLOWED_MECHANISMS, value: b}
}

func nested(kind uint, t template) attribute { return attribute{kind: kind, nested: t} }

// ulong appends a CK_ULONG in the machine's own byte order and size.
func ulong(b []byte, v uint) []byte {
	if unsafe.Sizeof(C.p11_ulong(0)) == 4 {
		return binary.NativeEndian.AppendUint32(b, uint32(v))
	}
	return binary.NativeEndian.AppendUint64(b, uint64(v))
}

// with returns t with the attribute replaced, or added when it is not there.
func (t template) with(a attribute) template {
	out := slices.Clone(t)
	for i := range out {
		if out[i].kind == a.kind {
			out[i] = a
			return out
		}
	}
	return append(out, a)
}

// without returns t without the attributes of these kinds.
func (t template) without(kinds ...uint) template {
	return slices.DeleteFunc(slices.Clone(t), func(a attribute) bool {
		return slices.Contains(kinds, a.kind)
	})
}

func (t template) has(kind uint) bool {
	return slices.ContainsFunc(t, func(a attribute) bool { return a.kind == kind })
}

// plain converts a template without nested entries for the wrapper library.
func (t template) plain() []*pkcs11.Attribute {
	out := make([]*pkcs11.Attribute, len(t))
	for i, a := range t {
		out[i] = pkcs11.NewAttribute(a.kind, a.value)
	}
	return out
}

const attributeSize = int(unsafe.Sizeof(C.struct_p11_attribute{}))

// size returns the bytes that the template takes in C memory, with each value
// rounded up so that what follows it stays aligned.
func (t template) size() int {
	n := len(t) * attributeSize
	for _, a := range t {
		n += aligned(len(a.value)) + a.nested.size()
	}
	return n
}

func aligned(n int) int { return (n + 15) &^ 15 }

// block is C memory that is wiped before it is freed. The garbage collector
// neither moves nor copies it.
type block struct {
	base unsafe.Pointer
	size int
	used int
}

func newBlock(size int) *block {
	// calloc in cgo never returns nil: it ends the process when memory is out.
	return &block{base: C.calloc(1, C.size_t(max(size, 1))), size: size}
}

// newSecret copies a secret into C memory. The caller's slice stays its own to
// wipe.
func newSecret(b []byte) *block {
	m := newBlock(len(b))
	wipe.Do(func() { m.used = copy(m.bytes(), b) })
	return m
}

func (m *block) bytes() []byte { return unsafe.Slice((*byte)(m.base), m.size) }

// free wipes and frees the block. It may be called more than once.
func (m *block) free() {
	if m == nil || m.base == nil {
		return
	}
	C.p11_wipe(m.base, C.size_t(m.size))
	C.free(m.base)
	m.base = nil
}

// take hands out the next n bytes of the block.
func (m *block) take(n int) unsafe.Pointer {
	p := unsafe.Add(m.base, m.used)
	m.used += aligned(n)
	return p
}

// marshal lays the template out in one block of C memory as an array of
// CK_ATTRIBUTE followed by the values.
func (t template) marshal() (*block, *C.struct_p11_attribute, C.p11_ulong) {
	m := newBlock(t.size())
	var first *C.struct_p11_attribute
	wipe.Do(func() { first = t.place(m) })
	return m, first, C.p11_ulong(len(t))
}

func (t template) place(m *block) *C.struct_p11_attribute {
	first := (*C.struct_p11_attribute)(unsafe.Add(m.base, m.used))
	m.used += len(t) * attributeSize
	for i, c := range unsafe.Slice(first, len(t)) {
		c._type = C.p11_ulong(t[i].kind)
		if t[i].nested != nil {
			c.value = unsafe.Pointer(t[i].nested.place(m))
			c.length = C.p11_ulong(len(t[i].nested) * attributeSize)
		} else if n := len(t[i].value); n > 0 {
			c.value = m.take(n)
			copy(unsafe.Slice((*byte)(c.value), n), t[i].value)
			c.length = C.p11_ulong(n)
		}
		unsafe.Slice(first, len(t))[i] = c
	}
	return first
}
