package network

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestConflict_OwnFree_OthersNamed(t *testing.T) {
	n := newTestNetwork(t, nil)
	attach(t, n, "app-1-1-0")
	if what, err := Conflict(n.cfg.ID, n.cfg.Subnet); what != "" || err != nil {
		t.Errorf("our own installation is in our way: %q, %v", what, err)
	}
	what, err := Conflict("000001", n.cfg.Subnet)
	if err != nil || !strings.Contains(what, n.linkName("app-1-1-0")) {
		t.Errorf("an instance's interface of another installation: %q, %v", what, err)
	}
	if err := n.Detach("app-1-1-0"); err != nil {
		t.Fatal(err)
	}
	what, err = Conflict("000001", n.cfg.Subnet)
	if err != nil || !strings.Contains(what, "its ID is "+n.cfg.ID) {
		t.Errorf("another installation without instances: %q, %v", what, err)
	}
	if err := Down(n.cfg.ID, n.cfg.RunDir); err != nil {
		t.Fatal(err)
	}
	if what, err := Conflict("000001", n.cfg.Subnet); what != "" || err != nil {
		t.Errorf("after down: %q, %v", what, err)
	}
}

func TestConflict_InterfacesOfTheMachine(t *testing.T) {
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil || len(addrs) == 0 {
		t.Fatalf("addresses of this machine: %v, %v", addrs, err)
	}
	p, ok := prefixOf(addrs[len(addrs)-1].IPNet)
	if !ok {
		t.Fatal(addrs[len(addrs)-1])
	}
	if what, err := Conflict("000001", netip.PrefixFrom(p.Addr(), 12)); err != nil || !strings.HasPrefix(what, "interface ") {
		t.Errorf("%q, %v", what, err)
	}
}
