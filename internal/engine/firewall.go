package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/slipway-paas/slipway/internal/egress"
)

// firewallRefresh: mirrors are named by host, and their addresses change.
const firewallRefresh = time.Minute

// ErrUnresolved: the rules are in place, but a name among the allowed hosts has
// no address or is malformed.
var ErrUnresolved = errors.New("allowed host left out")

// BuildNetwork is the builds' subnet and what they may reach although it lies in
// a denied range.
type BuildNetwork struct {
	Subnet    netip.Prefix
	Resolvers []string // IPv4 addresses; port 53, UDP and TCP
	Hosts     []string // host:port; names are resolved now, TCP only
}

// ApplyBuildFirewall replaces the rules for the bridge in one transaction, in a
// table of its own. From the bridge: nothing to this machine (but DNS, if it is
// the resolver), no IPv6, not to denied ranges but for what is allowed; the rest
// passes, masqueraded. To the bridge: answers only. It turns IPv4 forwarding on.
//
// Errors: ErrUnresolved, with the rules in place; anything else: the old rules stand.
func ApplyBuildFirewall(ctx context.Context, bridge string, n BuildNetwork) error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("turn on IPv4 forwarding: %w", err)
	}
	hosts, unresolved := resolve(ctx, n.Hosts)
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName(bridge)}
	conn.AddTable(t) // so that deleting it works when it is not there yet
	conn.DelTable(t)
	conn.AddTable(t)
	r := rules{conn: conn, table: t, bridge: bridge}
	r.input(n.Resolvers)
	if err := r.forward(n.Resolvers, hosts); err != nil {
		return err
	}
	r.masquerade(n.Subnet)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("set firewall of builds: %w", err)
	}
	return unresolved
}

// RemoveBuildFirewall deletes the bridge's table; absent is fine.
func RemoveBuildFirewall(bridge string) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName(bridge)}
	conn.AddTable(t)
	conn.DelTable(t)
	return conn.Flush()
}

// tableName is slipway_<ID>_build for the bridge sl<ID>b.
func tableName(bridge string) string {
	return "slipway_" + strings.TrimSuffix(strings.TrimPrefix(bridge, "sl"), "b") + "_build"
}

func resolve(ctx context.Context, hosts []string) (list []netip.AddrPort, err error) {
	for _, h := range hosts {
		host, portText, serr := net.SplitHostPort(h)
		port, perr := strconv.ParseUint(portText, 10, 16)
		if serr != nil || perr != nil {
			err = errors.Join(err, fmt.Errorf("%w: %q is not host:port", ErrUnresolved, h))
			continue
		}
		addrs, rerr := net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
		if rerr != nil {
			err = errors.Join(err, fmt.Errorf("%w: %s: %w", ErrUnresolved, h, rerr))
		}
		for _, a := range addrs {
			list = append(list, netip.AddrPortFrom(a.Unmap(), uint16(port)))
		}
	}
	return list, err
}

// rules adds rules to one table.
type rules struct {
	conn   *nftables.Conn
	table  *nftables.Table
	bridge string
}

func (r rules) chain(name string, hook *nftables.ChainHook) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	return r.conn.AddChain(&nftables.Chain{
		Name: name, Table: r.table, Type: nftables.ChainTypeFilter, Hooknum: hook,
		Priority: nftables.ChainPriorityRef(-10), Policy: &accept, // ahead of the machine's own filter
	})
}

func (r rules) add(c *nftables.Chain, verdict expr.VerdictKind, parts ...[]expr.Any) {
	var exprs []expr.Any
	for _, p := range parts {
		exprs = append(exprs, p...)
	}
	r.conn.AddRule(&nftables.Rule{Table: r.table, Chain: c, Exprs: append(exprs, &expr.Verdict{Kind: verdict})})
}

func (r rules) input(resolvers []string) {
	c := r.chain("input", nftables.ChainHookInput)
	from := iface(expr.MetaKeyIIFNAME, r.bridge)
	for _, s := range resolvers {
		if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
			r.allowDNS(c, from, a)
		}
	}
	r.add(c, expr.VerdictDrop, from)
}

func (r rules) forward(resolvers []string, hosts []netip.AddrPort) error {
	c := r.chain("forward", nftables.ChainHookForward)
	from, to := iface(expr.MetaKeyIIFNAME, r.bridge), iface(expr.MetaKeyOIFNAME, r.bridge)
	r.add(c, expr.VerdictAccept, to, established())
	r.add(c, expr.VerdictDrop, to)
	r.add(c, expr.VerdictDrop, from, family(unix.NFPROTO_IPV6))
	r.add(c, expr.VerdictAccept, from, established())
	for _, s := range resolvers {
		if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
			r.allowDNS(c, from, a)
		}
	}
	for _, h := range hosts {
		r.add(c, expr.VerdictAccept, from, destination(netip.PrefixFrom(h.Addr(), 32)), port(unix.IPPROTO_TCP, h.Port()))
	}
	for _, p := range egress.Denied() {
		r.add(c, expr.VerdictDrop, from, destination(p))
	}
	return nil
}

// masquerade gives the builds this machine's address. The CNI plugin could do
// it, with a rule for each step that stays behind when buildkitd is killed.
func (r rules) masquerade(subnet netip.Prefix) {
	c := r.conn.AddChain(&nftables.Chain{
		Name: "postrouting", Table: r.table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	exprs := append(source(subnet), &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: ifaceName(r.bridge)}, &expr.Masq{})
	r.conn.AddRule(&nftables.Rule{Table: r.table, Chain: c, Exprs: exprs})
}

func (r rules) allowDNS(c *nftables.Chain, from []expr.Any, a netip.Addr) {
	for _, proto := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		r.add(c, expr.VerdictAccept, from, destination(netip.PrefixFrom(a, 32)), port(proto, 53))
	}
}

func iface(key expr.MetaKey, name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ifaceName(name)}}
}

func ifaceName(name string) []byte {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return padded
}

func family(proto byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}}}
}

// Offsets of the addresses in the IPv4 header, RFC 791.
const (
	ipv4Source      = 12
	ipv4Destination = 16
)

func source(p netip.Prefix) []expr.Any      { return address(ipv4Source, p) }
func destination(p netip.Prefix) []expr.Any { return address(ipv4Destination, p) }

func address(offset uint32, p netip.Prefix) []expr.Any {
	addr := p.Masked().Addr().As4()
	mask := net.CIDRMask(p.Bits(), 32)
	return append(family(unix.NFPROTO_IPV4),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: addr[:]})
}

// port matches a destination port: bytes 2 and 3 of TCP's and UDP's header.
func port(proto byte, number uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, number)},
	}
}

func established() []expr.Any {
	const bits = expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func (e *Engine) applyFirewall(ctx context.Context) error {
	resolvers, err := e.resolvers()
	if err != nil {
		return err
	}
	subnet, err := netip.ParsePrefix(e.addr.BuildSubnet)
	if err != nil {
		return err
	}
	n := BuildNetwork{Subnet: subnet, Resolvers: resolvers, Hosts: e.cfg.BuildAllowed}
	err = ApplyBuildFirewall(ctx, e.addr.BuildBridge, n)
	if errors.Is(err, ErrUnresolved) {
		// A mirror that is down must not keep every build from running.
		e.cfg.Log.Warn("firewall of builds", "err", err)
		return nil
	}
	return err
}
