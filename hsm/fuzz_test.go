package hsm_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/sigild/sigild/hsm"
)

func FuzzCanary(f *testing.F) {
	f.Add([]byte{1, 0, 1, 7, 0, 1, 9})
	f.Add([]byte{1, 0, 0, 0, 0})
	f.Add([]byte{1, 0xff, 0xff, 1})
	f.Add([]byte{2, 0, 1, 7, 0, 1, 9})
	f.Add(append([]byte{1, 0, 72}, make([]byte, 139)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		again, err := hsm.RecodeCanary(b)
		if err != nil {
			if !errors.Is(err, hsm.ErrKeyChanged) {
				t.Errorf("%x: %v", b, err)
			}
			return
		}
		if !bytes.Equal(again, b) {
			t.Errorf("%x decodes and encodes to %x", b, again)
		}
	})
}

func FuzzPoint(f *testing.F) {
	f.Add(append([]byte{4}, make([]byte, 64)...))
	f.Add(append([]byte{4, 65, 4}, make([]byte, 64)...))
	f.Add(append([]byte{4, 64, 4}, make([]byte, 64)...))
	f.Add(append([]byte{3}, make([]byte, 32)...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		point, err := hsm.ParsePoint(b)
		if err != nil {
			if !errors.Is(err, hsm.ErrTokenAnswer) {
				t.Errorf("%x: %v", b, err)
			}
			return
		}
		if len(point) != 65 || point[0] != 4 || !bytes.HasSuffix(b, point) || len(b)-len(point) != 0 && len(b)-len(point) != 2 {
			t.Errorf("%x gives %x", b, point)
		}
	})
}
