package network

import (
	"bufio"
	"net/netip"
	"os"
	"strings"
)

// hostResolvers reads the name servers that the host uses, IPv4 only. A local
// stub (127.0.0.53) cannot be reached from an instance; the servers behind it
// are in a file of their own.
func hostResolvers() []netip.Addr {
	for _, file := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"} {
		if found := nameservers(file); len(found) > 0 {
			return found
		}
	}
	return nil
}

func nameservers(file string) []netip.Addr {
	f, err := os.Open(file)
	if err != nil {
		return nil // a host without DNS has instances without DNS
	}
	defer f.Close()
	var out []netip.Addr
	for sc := bufio.NewScanner(f); sc.Scan(); {
		fields := strings.Fields(sc.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil && a.Is4() && !a.IsLoopback() {
			out = append(out, a)
		}
	}
	return out
}
