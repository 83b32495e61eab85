package network

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const insideName = "eth0"

// plug makes namespace and veth: inside one /32 and a default route through the
// gateway, outside a /32 route. Neighbours are fixed on both sides: nobody asks,
// nobody can lie.
func (n *Network) plug(id string, at Attachment) error {
	if err := n.unplug(id); err != nil { // what a cut off attempt left
		return err
	}
	make := func() (*os.File, error) { return pin(at.NetNS) }
	if at.UserNS != "" {
		make = func() (*os.File, error) { return n.pinOwned(at) }
	}
	ns, err := make()
	if err != nil {
		return err
	}
	defer ns.Close()
	outside, inside := macs(id)
	name := n.linkName(id)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = name, n.mtu, outside
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: insideName, PeerHardwareAddr: inside,
		PeerMTU: uint32(n.mtu), PeerNamespace: netlink.NsFd(int(ns.Fd()))}
	if err := n.host.LinkAdd(veth); err != nil {
		return fmt.Errorf("add veth %s: %w", name, err)
	}
	if err := n.outside(name, at.Addr, inside); err != nil {
		return err
	}
	if err := n.inside(ns, at.Addr, outside); err != nil {
		return err
	}
	return n.awaitCarrier(name)
}

// awaitCarrier waits until the kernel has seen that the other end is up. It does
// so in the background, and drops what is sent before: a first probe would come a
// second late, by TCP's retransmission.
func (n *Network) awaitCarrier(name string) error {
	const bound, interval = 5 * time.Second, time.Millisecond
	for deadline := time.Now().Add(bound); ; time.Sleep(interval) {
		l, err := n.host.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find %s: %w", name, err)
		}
		if l.Attrs().OperState == netlink.OperUp {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("interface %s is not up after %v (it is %s)", name, bound, l.Attrs().OperState)
		}
	}
}

func (n *Network) outside(name string, addr netip.Addr, peer net.HardwareAddr) error {
	// IPv6 stays off on both ends; a kernel without it has no such file.
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("turn IPv6 off on %s: %w", name, err)
	}
	link, err := n.host.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	i := link.Attrs().Index
	return steps(
		step{"set address of " + name, func() error { return n.host.AddrAdd(link, &netlink.Addr{IPNet: single(n.gateway)}) }},
		step{"set neighbour of " + name, func() error { return n.host.NeighSet(neighbour(i, addr, peer)) }},
		step{"set up " + name, func() error { return n.host.LinkSetUp(link) }},
		step{"set route to " + addr.String(), func() error {
			return n.host.RouteReplace(&netlink.Route{LinkIndex: i, Scope: netlink.SCOPE_LINK, Dst: single(addr), Src: n.gateway.AsSlice()})
		}},
	)
}

func (n *Network) inside(ns *os.File, addr netip.Addr, peer net.HardwareAddr) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(int(ns.Fd())), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("enter namespace: %w", err)
	}
	defer h.Close()
	link, err := h.LinkByName(insideName)
	if err != nil {
		return fmt.Errorf("find %s inside: %w", insideName, err)
	}
	i := link.Attrs().Index
	return steps(
		step{"set address inside", func() error { return h.AddrAdd(link, &netlink.Addr{IPNet: single(addr)}) }},
		step{"set neighbour inside", func() error { return h.NeighSet(neighbour(i, n.gateway, peer)) }},
		step{"set up " + insideName + " inside", func() error { return h.LinkSetUp(link) }},
		step{"set route to the gateway inside", func() error {
			return h.RouteAdd(&netlink.Route{LinkIndex: i, Scope: netlink.SCOPE_LINK, Dst: single(n.gateway)})
		}},
		step{"set default route inside", func() error {
			return h.RouteAdd(&netlink.Route{LinkIndex: i, Gw: n.gateway.AsSlice()})
		}},
	)
}

// pin makes a network namespace with loopback up and IPv6 off and holds it by a
// bind mount at path.
func pin(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("pin namespace: %w", err)
	}
	f.Close()
	err = elsewhere(-1, func() error {
		if err := prepareInside(); err != nil {
			return err
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", path, err)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("pin namespace: %w", err)
	}
	return os.Open(path)
}

// elsewhere runs f on a thread that is in the network namespace ns, or in a new
// one if ns is negative, and brings the thread back. A thread that cannot come back is never used again; it must not
// be the rule, since the process's first thread would then keep the namespace.
func elsewhere(ns int, f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			result <- err
			return
		}
		defer home.Close()
		if ns >= 0 {
			err = unix.Setns(ns, unix.CLONE_NEWNET)
		} else {
			err = unix.Unshare(unix.CLONE_NEWNET)
		}
		if err != nil {
			err = fmt.Errorf("enter namespace: %w", err)
		} else {
			err = f()
		}
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
			err = errors.Join(err, fmt.Errorf("leave namespace: %w", back))
		} else {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}

// prepareInside turns IPv6 off and loopback on in the thread's namespace.
func prepareInside() error {
	for _, scope := range []string{"all", "default"} {
		err := os.WriteFile("/proc/sys/net/ipv6/conf/"+scope+"/disable_ipv6", []byte("1"), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("turn IPv6 off: %w", err)
		}
	}
	if err := upLoopback(); err != nil {
		return fmt.Errorf("set up loopback: %w", err)
	}
	return nil
}

// upLoopback sets the one flag by ioctl: cheaper here than a netlink socket.
func upLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// unplug removes veth and namespace of id. Absent: nil.
func (n *Network) unplug(id string) error {
	var errs []error
	if link, err := n.host.LinkByName(n.linkName(id)); err == nil {
		errs = append(errs, ignore(n.host.LinkDel(link), unix.ENODEV))
	} else if !errors.As(err, &netlink.LinkNotFoundError{}) {
		errs = append(errs, fmt.Errorf("find veth of %s: %w", id, err))
	}
	for _, path := range []string{n.nsPath(id), n.userPath(id)} {
		errs = append(errs, ignore(unix.Unmount(path, unix.MNT_DETACH), unix.ENOENT, unix.EINVAL))
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// strayLinks removes the veths of this installation that are not in keep.
func (n *Network) strayLinks(keep map[string]bool) (removed []string, err error) {
	ours := regexp.MustCompile("^" + linkPrefix(n.cfg.ID) + "[0-9a-f]{7}$")
	links, err := n.host.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var errs []error
	for _, l := range links {
		name := l.Attrs().Name
		if !ours.MatchString(name) || keep[name] {
			continue
		}
		if err := ignore(n.host.LinkDel(l), unix.ENODEV); err != nil {
			errs = append(errs, fmt.Errorf("remove interface %s: %w", name, err))
			continue
		}
		removed = append(removed, "interface "+name)
	}
	return removed, errors.Join(errs...)
}

// uplinkMTU is that of the interface with the default route: a larger one inside
// would rely on path MTU discovery for every download.
func uplinkMTU(h *netlink.Handle) int {
	const ethernet = 1500
	routes, err := h.RouteListFiltered(unix.AF_INET, &netlink.Route{Dst: nil}, netlink.RT_FILTER_DST)
	if err != nil || len(routes) == 0 {
		return ethernet
	}
	l, err := h.LinkByIndex(routes[0].LinkIndex)
	if err != nil || l.Attrs().MTU < 576 {
		return ethernet
	}
	return min(l.Attrs().MTU, ethernet)
}

func ignore(err error, which ...unix.Errno) error {
	for _, e := range which {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// macs derives both ends' locally administered addresses.
func macs(id string) (outside, inside net.HardwareAddr) {
	sum := sha256.Sum256([]byte("mac " + id))
	outside = net.HardwareAddr{0x02, 0x51, sum[0], sum[1], sum[2], sum[3]}
	inside = net.HardwareAddr{0x02, 0x52, sum[0], sum[1], sum[2], sum[3]}
	return outside, inside
}

func neighbour(link int, addr netip.Addr, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: link, Family: unix.AF_INET, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac}
}

func unreachable(id string, p netip.Prefix) *netlink.Route {
	return &netlink.Route{Type: unix.RTN_UNREACHABLE, Priority: mark(id),
		Dst: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}}
}

func single(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}
}
