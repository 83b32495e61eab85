package network

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/slipway-paas/slipway/internal/egress"
)

const nameSize = unix.IFNAMSIZ

// build adds sets and chains:
//
//	prerouting  a veth sends IPv4 from its own address, nothing else
//	input       instance → host: answers only, and DNS if the host is the resolver
//	forward     to an instance: answers only, and declared pairs;
//	            from an instance: resolvers, mirrors, then not the denied ranges
//	postrouting what leaves gets the host's address
//
// Every rule names our veths, so that the host's other traffic is not touched.
func (f *firewall) build(c *nftables.Conn, t *nftables.Table, all []source) error {
	b := &ruleset{conn: c, table: t, from: f.links(expr.MetaKeyIIFNAME), to: f.links(expr.MetaKeyOIFNAME)}
	sources := f.sourceSet()
	sources.Table = t
	var elements []nftables.SetElement
	for _, s := range all {
		elements = append(elements, s.element())
	}
	// Pairs of instances that may talk: declared by later features, empty until then.
	pairs := &nftables.Set{Table: t, Name: "pairs", Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIPAddr)}
	resolvers := &nftables.Set{Table: t, Name: "resolvers", KeyType: nftables.TypeIPAddr}
	var servers []nftables.SetElement
	for _, a := range f.cfg.Resolvers {
		servers = append(servers, nftables.SetElement{Key: a.AsSlice()})
	}
	mirrors := &nftables.Set{Table: t, Name: "mirrors", Interval: true, AutoMerge: true, KeyType: nftables.TypeIPAddr}
	deny := &nftables.Set{Table: t, Name: "denied", Interval: true, KeyType: nftables.TypeIPAddr}
	for _, s := range []struct {
		set      *nftables.Set
		elements []nftables.SetElement
	}{{sources, elements}, {pairs, nil}, {resolvers, servers}, {mirrors, intervals(f.cfg.Mirrors)}, {deny, intervals(egress.Denied())}} {
		if err := c.AddSet(s.set, s.elements); err != nil {
			return err
		}
	}

	b.chain("prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	b.rule(b.from, family(unix.NFPROTO_IPV6), drop)
	b.rule(b.from, sourcePair(), in(sources, true), drop)

	b.chain("input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
	b.rule(b.from, answers, accept)
	b.dns(resolvers)
	b.refuse(b.from)

	b.chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	b.rule(b.from, answers, accept)
	b.rule(b.to, answers, accept)
	b.rule(b.from, addressPair(), in(pairs, false), accept)
	b.refuse(b.to)
	b.dns(resolvers)
	b.rule(b.from, destination(), in(mirrors, false), accept)
	b.refuse(b.from, destination(), in(deny, false))

	b.chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	b.rule(family(unix.NFPROTO_IPV4), sourceIn(f.cfg.Subnet), f.notLinks(expr.MetaKeyOIFNAME), []expr.Any{&expr.Masq{}})
	return nil
}

// ruleset adds rules to the chain begun last.
type ruleset struct {
	conn     *nftables.Conn
	table    *nftables.Table
	current  *nftables.Chain
	from, to []expr.Any // matches packets from, or to, one of our veths
}

func (b *ruleset) chain(name string, kind nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority) {
	b.current = b.conn.AddChain(&nftables.Chain{Name: name, Table: b.table, Type: kind, Hooknum: hook, Priority: prio})
}

func (b *ruleset) rule(parts ...[]expr.Any) {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	b.conn.AddRule(&nftables.Rule{Table: b.table, Chain: b.current, Exprs: all})
}

// refuse answers TCP with a reset, so that an app sees "refused" at once instead of
// waiting, and drops the rest.
func (b *ruleset) refuse(match ...[]expr.Any) {
	reset := []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}
	b.rule(append(match, protocol(unix.IPPROTO_TCP), reset)...)
	b.rule(append(match, drop)...)
}

func (b *ruleset) dns(resolvers *nftables.Set) {
	for _, p := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		b.rule(b.from, destination(), in(resolvers, false), protocol(p), port(53), accept)
	}
}

var (
	accept = []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	drop   = []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}

	answers = []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Xor: make([]byte, 4),
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
)

// links matches the name prefix of our veths, but not the build bridge that
// begins the same.
func (f *firewall) links(key expr.MetaKey) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(linkPrefix(f.cfg.ID))},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: ifname(f.bridge)},
	}
}

func (f *firewall) notLinks(key expr.MetaKey) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte(linkPrefix(f.cfg.ID))},
	}
}

func family(proto byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
	}
}

func protocol(proto byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
	}
}

func port(n uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(n)},
	}
}

// Offsets of the addresses in an IPv4 header (RFC 791).
const srcOffset, dstOffset = 12, 16

func address(offset, register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4}
}

func destination() []expr.Any {
	return append(family(unix.NFPROTO_IPV4), address(dstOffset, 1))
}

// Concatenated keys lie in consecutive 4-byte registers: 8, 9, … name the words
// of register 1.
func sourcePair() []expr.Any {
	const afterName = unix.NFT_REG32_00 + nameSize/4
	return append(family(unix.NFPROTO_IPV4), &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, address(srcOffset, afterName))
}

func addressPair() []expr.Any {
	return append(family(unix.NFPROTO_IPV4), address(srcOffset, 1), address(dstOffset, unix.NFT_REG32_00+1))
}

func sourceIn(p netip.Prefix) []expr.Any {
	return []expr.Any{
		address(srcOffset, 1),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Xor: make([]byte, 4),
			Mask: binaryutil.BigEndian.PutUint32(^uint32(0) << (32 - p.Bits()))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Addr().AsSlice()},
	}
}

func in(s *nftables.Set, invert bool) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID, Invert: invert}}
}

func ifname(name string) []byte {
	b := make([]byte, nameSize)
	copy(b, name)
	return b
}

// intervals gives each range as its first address and the one after its last. A
// range up to 255.255.255.255 has no end.
func intervals(ps []netip.Prefix) []nftables.SetElement {
	var out []nftables.SetElement
	for _, p := range ps {
		first := p.Masked().Addr()
		out = append(out, nftables.SetElement{Key: first.AsSlice()})
		n := binaryutil.BigEndian.Uint32(first.AsSlice())
		if end := uint64(n) + 1<<(32-p.Bits()); end < 1<<32 {
			out = append(out, nftables.SetElement{Key: binaryutil.BigEndian.PutUint32(uint32(end)), IntervalEnd: true})
		}
	}
	return out
}
