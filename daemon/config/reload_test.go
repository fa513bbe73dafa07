package config_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/sigild/sigild/daemon/config"
)

// Each key that differs is named, and only what is asked for is taken over.
func TestChangedAndWith(t *testing.T) {
	a := config.Default()
	b := config.Default()
	b.Dev = true
	b.Socket.Allow = []uint32{0, 7}
	b.Log.Level = "debug"
	b.Limits.Batch++
	want := []string{"dev", "socket.allow", "limits.batch", "log.level"}
	if got := config.Changed(&a, &b); !slices.Equal(got, want) {
		t.Errorf("changed: %v, want %v", got, want)
	}
	mixed := a.With(&b, []string{"socket.allow", "log.level"})
	if got := config.Changed(&a, mixed); !slices.Equal(got, []string{"socket.allow", "log.level"}) {
		t.Errorf("taken over: %v", got)
	}
	if !reflect.DeepEqual(a, config.Default()) {
		t.Error("With changed its receiver")
	}
	if got := config.Changed(&a, &a); got != nil {
		t.Errorf("the same configuration differs in %v", got)
	}
}

// An absent list is another answer than an empty one.
func TestChangedSeesAnAbsentList(t *testing.T) {
	a, b := config.Default(), config.Default()
	b.Socket.Operators = []uint32{}
	if got := config.Changed(&a, &b); !slices.Equal(got, []string{"socket.operators"}) {
		t.Errorf("changed: %v", got)
	}
}
