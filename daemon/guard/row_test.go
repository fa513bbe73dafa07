package guard_test

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/sigild/sigild/daemon/guard"
)

func TestRowVectors(t *testing.T) {
	for _, v := range readVectors(t).Rows {
		t.Run(v.Name, func(t *testing.T) {
			mac := hmacSHA256(v.RecordKey)
			got, err := guard.DecodeRow(t.Context(), v.Stored, [16]byte(v.Row.Wallet), mac)
			if err != nil || !reflect.DeepEqual(got, v.row()) {
				t.Fatalf("decoded %+v, %v, want %+v", got, err, v.row())
			}
			again, err := guard.EncodeRow(t.Context(), v.row(), watch(t, v.MACInput, mac))
			if err != nil || !bytes.Equal(again, v.Stored) {
				t.Fatalf("encoded %x, %v, want %x", again, err, v.Stored)
			}
		})
	}
}

func TestRootVectors(t *testing.T) {
	for _, v := range readVectors(t).Roots {
		t.Run(v.Name, func(t *testing.T) {
			mac := hmacSHA256(v.RecordKey)
			got, err := guard.DecodeRoot(t.Context(), v.Stored, [16]byte(v.Root.Installation), mac)
			if err != nil || !reflect.DeepEqual(got, v.root()) {
				t.Fatalf("decoded %+v, %v, want %+v", got, err, v.root())
			}
			again, err := guard.EncodeRoot(t.Context(), v.root(), watch(t, v.MACInput, mac))
			if err != nil || !bytes.Equal(again, v.Stored) {
				t.Fatalf("encoded %x, %v, want %x", again, err, v.Stored)
			}
		})
	}
}

// watch is mac, and fails the test when it covers anything but want.
func watch(t *testing.T, want []byte, mac guard.MAC) guard.MAC {
	return func(ctx context.Context, message []byte) ([32]byte, error) {
		if !bytes.Equal(message, want) {
			t.Errorf("the MAC covers %x, want %x", message, want)
		}
		return mac(ctx, message)
	}
}

func TestEveryChangedBitIsFound(t *testing.T) {
	v := readVectors(t)
	for _, c := range v.Rows {
		everyChange(c.Stored, func(data []byte) {
			if _, err := guard.DecodeRow(t.Context(), data, [16]byte(c.Row.Wallet), hmacSHA256(c.RecordKey)); !errors.Is(err, guard.ErrCorrupt) {
				t.Fatalf("row %s as %x: err = %v, want ErrCorrupt", c.Name, data, err)
			}
		})
	}
	for _, c := range v.Roots {
		everyChange(c.Stored, func(data []byte) {
			if _, err := guard.DecodeRoot(t.Context(), data, [16]byte(c.Root.Installation), hmacSHA256(c.RecordKey)); !errors.Is(err, guard.ErrCorrupt) {
				t.Fatalf("root %s as %x: err = %v, want ErrCorrupt", c.Name, data, err)
			}
		})
	}
}

// everyChange gives f the data with each bit flipped, cut at each length, and
// with a byte more.
func everyChange(data []byte, f func([]byte)) {
	for i := range data {
		for bit := range 8 {
			c := bytes.Clone(data)
			c[i] ^= 1 << bit
			f(c)
		}
		f(data[:i])
	}
	f(append(bytes.Clone(data), 0))
}

// A row is one wallet's, a root one installation's, and neither is the other.
func TestRowsAndRootsAreNotExchanged(t *testing.T) {
	v := readVectors(t)
	row, root := v.Rows[0], v.Roots[0]
	mac := hmacSHA256(row.RecordKey)
	if !bytes.Equal(row.RecordKey, root.RecordKey) {
		t.Fatal("the vectors need one key")
	}
	_, another := guard.DecodeRow(t.Context(), row.Stored, [16]byte{1}, mac)
	_, anotherKey := guard.DecodeRow(t.Context(), row.Stored, [16]byte(row.Row.Wallet), hmacSHA256([]byte("x")))
	_, rootAsRow := guard.DecodeRow(t.Context(), root.Stored, [16]byte(root.Root.Installation), mac)
	_, elsewhere := guard.DecodeRoot(t.Context(), root.Stored, [16]byte{1}, mac)
	_, rowAsRoot := guard.DecodeRoot(t.Context(), row.Stored, [16]byte(row.Row.Wallet), mac)
	for name, err := range map[string]error{"another wallet's row": another, "another key's row": anotherKey,
		"a root for a row": rootAsRow, "another installation's root": elsewhere, "a row for a root": rowAsRoot} {
		if !errors.Is(err, guard.ErrCorrupt) {
			t.Errorf("%s: err = %v, want ErrCorrupt", name, err)
		}
	}
}

func TestRowsOfAnotherFormAreRefused(t *testing.T) {
	v := readVectors(t).Rows[0]
	long := v.row()
	long.Recent = make([]int64, guard.RecentMax+1)
	data, err := guard.EncodeRow(t.Context(), long, hmacSHA256(v.RecordKey))
	if err != nil {
		t.Fatal(err)
	}
	newer := bytes.Clone(v.Stored)
	newer[1] = guard.Format + 1 // the MAC does not cover the format
	for name, data := range map[string][]byte{"65 dates": data, "a newer format": newer, "nothing": {}, "an array": {0x80}} {
		if _, err := guard.DecodeRow(t.Context(), data, [16]byte(v.Row.Wallet), hmacSHA256(v.RecordKey)); !errors.Is(err, guard.ErrCorrupt) {
			t.Errorf("%s: err = %v, want ErrCorrupt", name, err)
		}
	}
}

func TestTokensErrorIsNotCorruption(t *testing.T) {
	gone := errors.New("token is gone")
	fails := func(context.Context, []byte) ([32]byte, error) { return [32]byte{}, gone }
	v := readVectors(t)
	_, decodeRow := guard.DecodeRow(t.Context(), v.Rows[0].Stored, [16]byte(v.Rows[0].Row.Wallet), fails)
	_, encodeRow := guard.EncodeRow(t.Context(), v.Rows[0].row(), fails)
	_, decodeRoot := guard.DecodeRoot(t.Context(), v.Roots[0].Stored, [16]byte(v.Roots[0].Root.Installation), fails)
	_, encodeRoot := guard.EncodeRoot(t.Context(), v.Roots[0].root(), fails)
	for i, err := range []error{decodeRow, encodeRow, decodeRoot, encodeRoot} {
		if !errors.Is(err, gone) || errors.Is(err, guard.ErrCorrupt) {
			t.Errorf("case %d: err = %v, want the token's", i, err)
		}
	}
}

// agrees gives each row the MAC that it asks for, its last 32 bytes.
func agrees(data []byte) guard.MAC {
	return func(context.Context, []byte) (sum [32]byte, err error) {
		copy(sum[:], data[max(0, len(data)-32):])
		return sum, nil
	}
}

func FuzzDecodeRow(f *testing.F) {
	rows := readVectors(f).Rows
	for _, v := range rows {
		f.Add([]byte(v.Stored))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, v := range rows {
			r, err := guard.DecodeRow(t.Context(), data, [16]byte(v.Row.Wallet), agrees(data))
			if err != nil {
				if !errors.Is(err, guard.ErrCorrupt) {
					t.Fatalf("err = %v, want ErrCorrupt", err)
				}
				continue
			}
			if again, err := guard.EncodeRow(t.Context(), r, agrees(data)); err != nil || !slices.Equal(again, data) {
				t.Fatalf("%x encodes as %x, %v", data, again, err)
			}
		}
	})
}

func FuzzDecodeRoot(f *testing.F) {
	roots := readVectors(f).Roots
	for _, v := range roots {
		f.Add([]byte(v.Stored))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, v := range roots {
			r, err := guard.DecodeRoot(t.Context(), data, [16]byte(v.Root.Installation), agrees(data))
			if err != nil {
				if !errors.Is(err, guard.ErrCorrupt) {
					t.Fatalf("err = %v, want ErrCorrupt", err)
				}
				continue
			}
			if again, err := guard.EncodeRoot(t.Context(), r, agrees(data)); err != nil || !slices.Equal(again, data) {
				t.Fatalf("%x encodes as %x, %v", data, again, err)
			}
		}
	})
}
