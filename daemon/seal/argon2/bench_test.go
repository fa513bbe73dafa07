package argon2_test

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	other "golang.org/x/crypto/argon2"

	"github.com/sigild/sigild/daemon/seal/argon2/argon2test"
	"github.com/sigild/sigild/daemon/wipe"
)

// BenchmarkKey compares, in one run, with x/crypto's assembly at the default cost, by
// one caller and by two at a time, as package seal calls it. Both take turns, so that
// other work on the machine meets both; the collections that each brings about are
// in its time.
func BenchmarkKey(b *testing.B) {
	cost := argon2test.Cost{Time: 2, Memory: 19 << 10, Lanes: 1}
	pin, salt := []byte("402916"), make([]byte, 16)
	for _, callers := range []int{1, 2} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			var ours, theirs spent
			for range b.N {
				theirs.add(b, callers, func() { other.IDKey(pin, salt, cost.Time, cost.Memory, uint8(cost.Lanes), 32) })
				ours.add(b, callers, func() { key(b, pin, salt, cost) })
			}
			b.ReportMetric(0, "ns/op")
			ours.report(b, "sigild")
			theirs.report(b, "x/crypto")
			b.ReportMetric(ours.elapsed.Seconds()/theirs.elapsed.Seconds(), "of-x/crypto")
			b.ReportMetric(ours.processor.Seconds()/theirs.processor.Seconds(), "cpu-of-x/crypto")
		})
	}
}

// spent is what some calls took.
type spent struct {
	elapsed, processor time.Duration
	calls              int
}

// inARow is how often each caller calls.
const inARow = 8

func (s *spent) add(b *testing.B, callers int, call func()) {
	before, began := processorTime(b), time.Now()
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			for range inARow {
				wipe.Do(call)
			}
		})
	}
	group.Wait()
	s.elapsed += time.Since(began)
	s.processor += processorTime(b) - before
	s.calls += callers * inARow
}

func (s *spent) report(b *testing.B, by string) {
	b.ReportMetric(s.elapsed.Seconds()*1000/float64(s.calls), "ms-"+by)
	b.ReportMetric(s.processor.Seconds()*1000/float64(s.calls), "cpu-ms-"+by)
}

// processorTime is what this process took of all processors so far.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
