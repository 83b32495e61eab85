package network

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Conflict names what on this machine already has addresses of subnet and is not
// of the installation id: an interface in it, a route into it or the mark of
// another installation. "" means that the subnet is free. A wider route by a
// gateway (10.0.0.0/8 to a VPN) is none: what is more specific wins over it.
func Conflict(id string, subnet netip.Prefix) (string, error) {
	subnet = subnet.Masked()
	links, err := netlink.LinkList()
	if err != nil {
		return "", fmt.Errorf("list interfaces: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	ours := func(index int) bool { return strings.HasPrefix(names[index], linkPrefix(id)) }
	addrs, err := netlink.AddrList(nil, unix.AF_INET)
	if err != nil {
		return "", fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok && !ours(a.LinkIndex) && p.Overlaps(subnet) {
			return fmt.Sprintf("interface %s with %s", names[a.LinkIndex], a.IPNet), nil
		}
	}
	routes, err := netlink.RouteList(nil, unix.AF_INET)
	if err != nil {
		return "", fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		p, ok := prefixOf(r.Dst)
		if !ok || !p.Overlaps(subnet) || ours(r.LinkIndex) {
			continue
		}
		switch {
		case r.Type == unix.RTN_UNREACHABLE:
			if r.Priority != 0 && r.Priority != mark(id) {
				return fmt.Sprintf("another Slipway on this machine (its ID is %06x) with %s", r.Priority, p), nil
			}
		case r.Type == unix.RTN_UNICAST && (p.Bits() >= subnet.Bits() || r.Scope == netlink.SCOPE_LINK):
			return fmt.Sprintf("the route to %s by %s", p, names[r.LinkIndex]), nil
		}
	}
	return "", nil
}

// prefixOf is not ok for the default route, which is in nobody's way.
func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(n.String())
	return p, err == nil && p.Bits() > 0
}

// mark is the metric of an installation's unreachable route: what tells it from
// another's, as a route has no name.
func mark(id string) int {
	n, _ := strconv.ParseUint(id, 16, 24) // checked where the ID comes in
	return int(n)
}
