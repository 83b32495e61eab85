package router

import (
	"net/netip"
	"strings"
)

const maxHostBytes = 253 // RFC 1035 §2.3.4, less the root's dot

// NormalizeHost gives the form under which tables hold a host: lower case,
// without port and without the root's dot. ok is false for anything that is not
// a host name or address, with an optional port.
func NormalizeHost(host string) (name string, ok bool) {
	if strings.HasPrefix(host, "[") {
		return normalizeIPv6(host)
	}
	name, port, hasPort := strings.Cut(host, ":")
	if hasPort && !isPort(port) {
		return "", false
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if name == "" || len(name) > maxHostBytes {
		return "", false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || !isLabel(label) {
			return "", false
		}
	}
	return name, true
}

func normalizeIPv6(host string) (string, bool) {
	literal, port, ok := strings.Cut(host[1:], "]")
	if !ok {
		return "", false
	}
	if port != "" && (port[0] != ':' || !isPort(port[1:])) {
		return "", false
	}
	addr, err := netip.ParseAddr(literal)
	if err != nil || !addr.Is6() || addr.Zone() != "" {
		return "", false
	}
	return "[" + addr.String() + "]", true
}

// isLabel accepts the underscore as well: not a host name by RFC 952, but used.
func isLabel(label string) bool {
	for i := range len(label) {
		c := label[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// isPort accepts the empty port, which RFC 3986 §3.2.3 allows.
func isPort(s string) bool {
	if len(s) > 5 {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
