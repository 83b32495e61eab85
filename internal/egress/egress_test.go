package egress_test

import (
	"net/netip"
	"testing"

	"github.com/slipway-paas/slipway/internal/egress"
)

func TestDenied_HoldsWhatIsNotTheInternet_AndNothingElse(t *testing.T) {
	denied := func(s string) bool {
		for _, p := range egress.Denied() {
			if p.Contains(netip.MustParseAddr(s)) {
				return true
			}
		}
		return false
	}
	for _, s := range []string{
		"0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.1.1",
		"198.18.0.1", "203.0.113.9", "224.0.0.1", "255.255.255.255",
	} {
		if !denied(s) {
			t.Errorf("%s may be reached", s)
		}
	}
	for _, s := range []string{"1.1.1.1", "100.63.255.255", "172.15.0.1", "172.32.0.1", "192.0.1.1", "198.20.0.1", "223.255.255.255"} {
		if denied(s) {
			t.Errorf("%s is the internet and denied", s)
		}
	}
}
