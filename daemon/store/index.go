package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"

	"go.etcd.io/bbolt"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

// row is one row of an index.
type row struct{ bucket, key, value string }

// rows are all that stand for a wallet in the indexes; none without an index.
func rows(id seal.ID, relay uint32, i *wallet.Index) map[row]bool {
	all := map[row]bool{}
	if i == nil {
		return all
	}
	at := place(i.Created, id)
	add := func(bucket, key, value []byte) { all[row{string(bucket), string(key), string(value)}] = true }
	add(relayBucket, append(relayKey(relay), at...), nil)
	add(ownerBucket, append(textKey(relay, i.Owner), at...), nil)
	for _, tag := range i.Tags {
		add(tagBucket, append(textKey(relay, tag), at...), nil)
	}
	if i.ExternalID != "" {
		add(nameBucket, nameKey(relay, i.ExternalID), id[:])
	}
	if i.Deleted != 0 {
		add(tombBucket, place(i.Deleted, id), nil)
	}
	return all
}

// reindex removes the rows that only before has and writes those that only
// after has. wallet.ErrExternalID when that name is another wallet's.
func reindex(tx *bbolt.Tx, id seal.ID, relay uint32, before, after *wallet.Index) error {
	old, next := rows(id, relay, before), rows(id, relay, after)
	for r := range old {
		if next[r] {
			continue
		}
		if err := tx.Bucket([]byte(r.bucket)).Delete([]byte(r.key)); err != nil {
			return err
		}
	}
	for r := range next {
		if old[r] {
			continue
		}
		b := tx.Bucket([]byte(r.bucket))
		if r.bucket == string(nameBucket) && b.Get([]byte(r.key)) != nil {
			return wallet.ErrExternalID
		}
		if err := b.Put([]byte(r.key), []byte(r.value)); err != nil {
			return err
		}
	}
	return nil
}

// List gives a page of a relay's wallets in the order of their creation, by
// tag, by owner or all. With both, the wallets of the tag are given and the
// caller compares the owner. The cursor is the place of the last wallet.
func (s *Store) List(ctx context.Context, p wallet.Page) (ids []seal.ID, cursor []byte, err error) {
	bucket, prefix := relayBucket, relayKey(p.Relay)
	switch {
	case p.Tag != "":
		bucket, prefix = tagBucket, textKey(p.Relay, p.Tag)
	case p.Owner != "":
		bucket, prefix = ownerBucket, textKey(p.Relay, p.Owner)
	}
	if p.After != nil && len(p.After) != placeSize {
		return nil, nil, &wallet.FieldError{Field: "cursor", Problem: "is not one that this method gave"}
	}
	err = s.read(ctx, func(tx *bbolt.Tx) error {
		ids, cursor = page(tx.Bucket(bucket).Cursor(), prefix, p)
		return nil
	})
	return ids, cursor, err
}

func page(c *bbolt.Cursor, prefix []byte, p wallet.Page) (ids []seal.ID, cursor []byte) {
	from := binary.BigEndian.AppendUint64(nil, uint64(max(p.From, 0)))
	if bytes.Compare(p.After, from) > 0 {
		from = p.After
	}
	k, _ := c.Seek(append(bytes.Clone(prefix), from...))
	if p.After != nil && bytes.Equal(k, append(bytes.Clone(prefix), p.After...)) {
		k, _ = c.Next()
	}
	for ; bytes.HasPrefix(k, prefix) && len(k) == len(prefix)+placeSize; k, _ = c.Next() {
		at := k[len(prefix):]
		if p.Until != 0 && int64(binary.BigEndian.Uint64(at)) >= p.Until {
			break
		}
		if len(ids) == p.Limit {
			return ids, cursor
		}
		cursor = bytes.Clone(at)
		ids = append(ids, seal.ID(at[8:]))
	}
	return ids, nil
}

// Tombstones lists up to limit wallets that were deleted before a time, in
// Unix seconds, after a cursor; next is nil at the end.
func (s *Store) Tombstones(ctx context.Context, before int64, after []byte, limit int) (ids []seal.ID, next []byte, err error) {
	err = s.read(ctx, func(tx *bbolt.Tx) error {
		ids, next = page(tx.Bucket(tombBucket).Cursor(), nil, wallet.Page{Until: before, After: after, Limit: limit})
		return nil
	})
	return ids, next, err
}

// Everything lists up to limit wallets of all relays, by id, after one.
func (s *Store) Everything(ctx context.Context, after *seal.ID, limit int) (ids []seal.ID, err error) {
	err = s.read(ctx, func(tx *bbolt.Tx) error {
		c := tx.Bucket(recordBucket).Cursor()
		k, _ := c.First()
		if after != nil {
			if k, _ = c.Seek(after[:]); bytes.Equal(k, after[:]) {
				k, _ = c.Next()
			}
		}
		for ; len(k) == len(seal.ID{}) && len(ids) < limit; k, _ = c.Next() {
			ids = append(ids, seal.ID(k))
		}
		return nil
	})
	return ids, err
}

const placeSize = 8 + 16

// place orders wallets by a time in Unix seconds, then by id.
func place(at int64, id seal.ID) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(at)), id[:]...)
}

func relayKey(relay uint32) []byte { return binary.BigEndian.AppendUint32(nil, relay) }

// textKey stands for an owner or a tag in a key of fixed size.
func textKey(relay uint32, text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return append(relayKey(relay), sum[:16]...)
}

func nameKey(relay uint32, externalID string) []byte {
	sum := sha256.Sum256([]byte(externalID))
	return append(relayKey(relay), sum[:]...)
}

func addressKey(relay uint32, address [20]byte) []byte {
	return append(relayKey(relay), address[:]...)
}
