// Package egress says what untrusted code, in a build step or in an instance, may
// never reach beyond the host. Both firewalls (internal/engine, runtime/network)
// read it here, so that they cannot drift apart. It imports the standard library
// only. Start reading at Denied.
package egress

import "net/netip"

// Denied returns the IPv4 ranges that are not the internet: this machine's
// neighbours, link-local with the clouds' metadata services, other tenants,
// documentation, benchmarks, multicast and reserved ones (IANA's special-purpose
// registry, RFC 6890). Resolvers and mirrors inside them are exempted one by one.
// The slice is the caller's.
func Denied() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
	} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}
