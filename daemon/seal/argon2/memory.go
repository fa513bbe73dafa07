package argon2

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// withMemory lends use clear blocks, which use leaves clear.
//
// They are mapped for this one call and unmapped after it. On Go's heap they would be
// garbage until a collection, several checks' worth of it. Kept until the next call
// they would save a tenth of the time, and be most of an idle daemon's memory. Huge
// pages, asked for at once, take most of the time out of the kernel's part:
// docs/performance.md.
func withMemory(n int, use func([]block)) error {
	mapped, err := unix.Mmap(-1, 0, n*blockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return fmt.Errorf("argon2: %d KiB of memory: %w", n, err)
	}
	defer unmap(mapped)
	// Advice: a kernel without huge pages, or before Linux 5.14, gives pages one by one.
	_ = unix.Madvise(mapped, unix.MADV_HUGEPAGE)
	_ = unix.Madvise(mapped, unix.MADV_POPULATE_WRITE)
	use(unsafe.Slice((*block)(unsafe.Pointer(&mapped[0])), n)) // a page is aligned for words
	return nil
}

// unmap cannot fail for what Mmap gave; if it does, it must not go unseen, since each
// call would leave its memory behind.
func unmap(mapped []byte) {
	if err := unix.Munmap(mapped); err != nil {
		panic(fmt.Sprintf("argon2: munmap: %v", err))
	}
}
