package network

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Users of an instance: 65,536 IDs of its own, so that it is nobody's user but
// its own even outside its namespace.
const (
	UserRange = 1 << 16
	firstUser = 1 << 20 // past what hosts give to people and to rootless containers
	userSlots = 65_000  // ranges before IDs end at 2³²
)

// HoldArg0 as argv[0] makes Config.Hold wait until its standard input ends.
const HoldArg0 = "slipway-hold"

// CanHold reports whether the kernel lets us make user namespaces; program is
// what Config.Hold would be.
func CanHold(program string) error {
	cmd := exec.Command(program)
	cmd.Args, cmd.Env = []string{HoldArg0}, []string{} // no input: ends at once
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: firstUser, Size: UserRange}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET, UidMappings: ids, GidMappings: ids}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("make user namespace: %w", err)
	}
	return nil
}

// firstUID is derived from the address, which no two instances share.
func (n *Network) firstUID(a netip.Addr) uint32 {
	b, s := a.As4(), n.cfg.Subnet.Addr().As4()
	word := func(b [4]byte) uint32 {
		return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	}
	return firstUser + (word(b)-word(s))%userSlots*UserRange
}

// pinOwned is pin with a user namespace that owns the network namespace: only so
// may a container in it mount its own /sys. A short-lived process makes both.
func (n *Network) pinOwned(at Attachment) (*os.File, error) {
	for _, p := range []string{at.NetNS, at.UserNS} {
		f, err := os.OpenFile(p, os.O_CREATE|os.O_RDONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("pin namespace: %w", err)
		}
		f.Close()
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(at.FirstUID), Size: UserRange}}
	held, hold := io.Pipe()
	cmd := exec.Command(n.cfg.Hold)
	cmd.Args, cmd.Env, cmd.Stdin = []string{HoldArg0}, []string{}, held
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET, UidMappings: ids, GidMappings: ids}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("make user namespace: %w", err)
	}
	defer func() {
		hold.Close()
		cmd.Process.Kill()
		cmd.Wait() // killed: its result says nothing
	}()
	dir := "/proc/" + strconv.Itoa(cmd.Process.Pid) + "/ns/"
	for from, to := range map[string]string{"net": at.NetNS, "user": at.UserNS} {
		if err := unix.Mount(dir+from, to, "", unix.MS_BIND, ""); err != nil {
			return nil, fmt.Errorf("pin namespace: bind %s: %w", to, err)
		}
	}
	ns, err := os.Open(at.NetNS)
	if err != nil {
		return nil, fmt.Errorf("pin namespace: %w", err)
	}
	if err := elsewhere(int(ns.Fd()), prepareInside); err != nil {
		ns.Close()
		return nil, fmt.Errorf("pin namespace: %w", err)
	}
	return ns, nil
}
