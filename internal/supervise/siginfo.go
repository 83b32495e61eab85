package supervise

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// asSiginfo views our layout as the kernel's buffer; both are 128 bytes, which
// the conversion below checks when compiling.
func asSiginfo(info *siginfo) *unix.Siginfo {
	return (*unix.Siginfo)(unsafe.Pointer(info))
}

var _ [unsafe.Sizeof(siginfo{}) - unsafe.Sizeof(unix.Siginfo{})]struct{}
