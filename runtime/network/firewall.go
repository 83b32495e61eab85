package network

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

const chains = 4 // of our table; see rules.go

// source ties a veth to the one address that may send through it.
type source struct {
	link string
	addr netip.Addr
}

// firewall is the installation's nftables table: rules that never change, and
// sets that change by element. nftables(8) explains hooks and priorities.
type firewall struct {
	cfg    Config
	bridge string     // of builds: begins like our veths, has a table of its own
	mu     sync.Mutex // one transaction at a time; the kernel would refuse a second
}

func (f *firewall) table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: "slipway_" + f.cfg.ID}
}

// sourceSet holds (veth, address) pairs; everything else a veth sends is dropped.
func (f *firewall) sourceSet() *nftables.Set {
	return &nftables.Set{Table: f.table(), Name: "sources", Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIPAddr)}
}

func (s source) element() nftables.SetElement {
	return nftables.SetElement{Key: append(ifname(s.link), s.addr.AsSlice()...)}
}

// replace puts the whole table in place in one transaction: there is no moment
// without rules.
func (f *firewall) replace(all []source) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	t := c.AddTable(f.table())
	c.DelTable(t)
	t = c.AddTable(f.table())
	if err := f.build(c, t, all); err != nil {
		return fmt.Errorf("firewall table %s: %w", t.Name, err)
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("write firewall table %s: %w", t.Name, err)
	}
	return nil
}

// allow lets link send from addr. If the table is gone it is made again.
func (f *firewall) allow(link string, addr netip.Addr, all func() []source) error {
	err := f.change(func(c *nftables.Conn) error {
		return c.SetAddElements(f.sourceSet(), []nftables.SetElement{source{link, addr}.element()})
	})
	if errors.Is(err, unix.ENOENT) {
		err = f.replace(all()) // holds link already: its address was reserved
	}
	if err != nil {
		return fmt.Errorf("firewall entry for %s: %w", addr, err)
	}
	return nil
}

// forbid takes link's entry away. Absent: nil.
func (f *firewall) forbid(link string, addr netip.Addr) error {
	err := f.change(func(c *nftables.Conn) error {
		return c.SetDeleteElements(f.sourceSet(), []nftables.SetElement{source{link, addr}.element()})
	})
	if err = ignore(err, unix.ENOENT); err != nil {
		return fmt.Errorf("firewall entry for %s: %w", addr, err)
	}
	return nil
}

// remove deletes the table. Absent: nil.
func (f *firewall) remove() error {
	err := f.change(func(c *nftables.Conn) error {
		c.DelTable(f.table())
		return nil
	})
	if err = ignore(err, unix.ENOENT); err != nil {
		return fmt.Errorf("remove firewall table %s: %w", f.table().Name, err)
	}
	return nil
}

// intact reports whether all our chains with all their rules are there.
func (f *firewall) intact() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := nftables.New()
	if err != nil {
		return false
	}
	have, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return false
	}
	found := 0
	for _, ch := range have {
		if ch.Table.Name != f.table().Name {
			continue
		}
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil || len(rules) == 0 {
			return false
		}
		found++
	}
	return found == chains
}

func (f *firewall) change(add func(*nftables.Conn) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := nftables.New()
	if err != nil {
		return err
	}
	if err := add(c); err != nil {
		return err
	}
	return c.Flush()
}
