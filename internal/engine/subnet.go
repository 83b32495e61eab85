package engine

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
)

// buildSubnet returns the configured subnet, the one chosen earlier or a free
// /24 in 10.209.0.0/16, so that two engines on a machine do not share one.
func (e *Engine) buildSubnet() (netip.Prefix, error) {
	if s := e.cfg.BuildSubnet; s != "" {
		p, err := netip.ParsePrefix(s)
		if err != nil || !p.Addr().Is4() || p.Bits() > 28 {
			return p, fmt.Errorf("build subnet %q is not an IPv4 range of at least 16 addresses; write it like 10.209.1.0/24", s)
		}
		return p.Masked(), nil
	}
	file := e.dir("buildkit", "subnet")
	if data, err := os.ReadFile(file); err == nil {
		if p, err := netip.ParsePrefix(strings.TrimSpace(string(data))); err == nil {
			return p, nil
		}
	}
	p, err := freeSubnet(e.cfg.ID, e.addr.BuildBridge)
	if err != nil {
		return p, err
	}
	return p, writeFile(file, []byte(p.String()+"\n"), 0o600)
}

func freeSubnet(id, bridge string) (netip.Prefix, error) {
	used, err := usedPrefixes(bridge)
	if err != nil {
		return netip.Prefix{}, err
	}
	first := byte(0)
	if b, err := hex.DecodeString(id); err == nil && len(b) > 0 {
		first = b[0]
	}
	for i := range 256 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 209, first + byte(i), 0}), 24)
		free := true
		for _, u := range used {
			free = free && !u.Overlaps(p)
		}
		if free {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("every /24 of 10.209.0.0/16 is in use on this machine; set the build subnet in the configuration")
}

// usedPrefixes are the networks of every interface but one.
func usedPrefixes(except string) ([]netip.Prefix, error) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var used []netip.Prefix
	for _, i := range ifaces {
		if i.Name == except {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // the interface went away meanwhile
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				used = append(used, p.Masked())
			}
		}
	}
	return used, nil
}
