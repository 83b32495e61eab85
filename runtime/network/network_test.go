package network

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// newTestNetwork has an ID and a /24 of its own, so that tests may run beside
// each other and beside a real installation.
func newTestNetwork(t *testing.T, change func(*Config)) *Network {
	t.Helper()
	b := make([]byte, 5)
	rand.Read(b)
	cfg := Config{ID: hex.EncodeToString(b[:3]), RunDir: t.TempDir(),
		Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 220 + b[3]%30, b[4], 0}), 24), Resolvers: []netip.Addr{}}
	if change != nil {
		change(&cfg)
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Close()
		if err := Down(cfg.ID, cfg.RunDir); err != nil {
			t.Error(err)
		}
	})
	return n
}

func attach(t *testing.T, n *Network, id string) Attachment {
	t.Helper()
	at, err := n.Reserve(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Attach(t.Context(), id, at); err != nil {
		t.Fatal(err)
	}
	return at
}

// inNS runs f on a thread that is in the namespace at path ("" = the host's).
func inNS(t *testing.T, path string, f func()) {
	t.Helper()
	if path == "" {
		f()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	there, err := netns.GetFromPath(path)
	if err == nil {
		err = netns.Set(there)
		there.Close()
	}
	if err != nil {
		t.Fatalf("enter %s: %v", path, err)
	}
	defer func() {
		if err := netns.Set(home); err != nil {
			t.Fatalf("leave %s: %v", path, err)
		}
	}()
	f()
}

// listen accepts connections in a namespace until the test ends.
func listen(t *testing.T, ns, addr string) {
	t.Helper()
	inNS(t, ns, func() {
		l, err := net.Listen("tcp4", addr)
		if err != nil {
			t.Errorf("listen %s: %v", addr, err)
			return
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
	})
}

// try connects from a namespace and says "open", "refused" or "silent".
func try(t *testing.T, ns, local, addr string) (result string) {
	t.Helper()
	inNS(t, ns, func() {
		d := net.Dialer{Timeout: 700 * time.Millisecond}
		if local != "" {
			d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(local)}
		}
		c, err := d.Dial("tcp4", addr)
		switch {
		case err == nil:
			c.Close()
			result = "open"
		case errors.Is(err, unix.ECONNREFUSED):
			result = "refused"
		case os.IsTimeout(err):
			result = "silent"
		default:
			result = err.Error()
		}
	})
	return result
}

// outside makes a namespace that stands for all the world beyond the host: the
// host routes each address of addrs into it, so no packet can leave the machine.
func outside(t *testing.T, n *Network, addrs ...string) (ns, hostAddr string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "outside")
	f, err := pin(path)
	if err != nil {
		t.Fatal(err)
	}
	name := "st" + n.cfg.ID
	t.Cleanup(func() {
		f.Close()
		unix.Unmount(path, unix.MNT_DETACH)
		if l, err := netlink.LinkByName(name); err == nil {
			netlink.LinkDel(l)
		}
	})
	hostAddr = netip.AddrFrom4([4]byte{198, 19, n.cfg.Subnet.Addr().As4()[2], 1}).String()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(f.Fd()))}))
	l, err := netlink.LinkByName(name)
	must(err)
	must(netlink.AddrAdd(l, &netlink.Addr{IPNet: single(netip.MustParseAddr(hostAddr))}))
	must(netlink.LinkSetUp(l))
	h, err := netlink.NewHandleAt(netns.NsHandle(int(f.Fd())))
	must(err)
	defer h.Close()
	in, err := h.LinkByName("eth0")
	must(err)
	for _, a := range addrs {
		must(h.AddrAdd(in, &netlink.Addr{IPNet: single(netip.MustParseAddr(a))}))
	}
	must(h.LinkSetUp(in))
	must(h.RouteAdd(&netlink.Route{LinkIndex: in.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: single(netip.MustParseAddr(hostAddr))}))
	must(h.RouteAdd(&netlink.Route{LinkIndex: in.Attrs().Index, Gw: net.ParseIP(hostAddr)}))
	for _, a := range addrs {
		must(netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: single(netip.MustParseAddr(a)), Src: net.ParseIP(hostAddr)}))
	}
	return path, hostAddr
}

func TestNetwork_Matrix(t *testing.T) {
	const resolver, internet, mirror = "10.254.77.53", "192.88.99.1", "198.51.100.7"
	n := newTestNetwork(t, func(c *Config) {
		c.Resolvers = []netip.Addr{netip.MustParseAddr(resolver)}
		c.Mirrors = []netip.Prefix{netip.MustParsePrefix(mirror + "/32")}
	})
	world := []string{resolver, internet, mirror, "198.51.100.8", "169.254.169.254", "10.254.77.7", "172.20.1.1", "192.168.77.7", "100.64.7.7"}
	ns, hostAddr := outside(t, n, world...)
	a, b := attach(t, n, "app-1-1-0"), attach(t, n, "app-1-2-0")
	for _, where := range []struct{ ns, addr string }{
		{ns, "0.0.0.0:80"}, {ns, "0.0.0.0:53"}, {a.NetNS, "0.0.0.0:8080"}, {b.NetNS, "0.0.0.0:8080"},
		{"", hostAddr + ":8099"}, {"", n.gateway.String() + ":8099"},
	} {
		listen(t, where.ns, where.addr)
	}
	cells := []struct{ what, from, to, want string }{
		{"host to A", "", a.Addr.String() + ":8080", "open"},
		{"host to B", "", b.Addr.String() + ":8080", "open"},
		{"A to itself", a.NetNS, a.Addr.String() + ":8080", "open"},
		{"A to B", a.NetNS, b.Addr.String() + ":8080", "refused"},
		{"B to A", b.NetNS, a.Addr.String() + ":8080", "refused"},
		{"A to the host", a.NetNS, hostAddr + ":8099", "refused"},
		{"A to the gateway", a.NetNS, n.gateway.String() + ":8099", "refused"},
		{"A to the internet", a.NetNS, internet + ":80", "open"},
		{"A to a mirror", a.NetNS, mirror + ":80", "open"},
		{"A to the resolver", a.NetNS, resolver + ":53", "open"},
		{"A to another port of the resolver", a.NetNS, resolver + ":80", "refused"},
		{"A to metadata", a.NetNS, "169.254.169.254:80", "refused"},
		{"A to a documentation range", a.NetNS, "198.51.100.8:80", "refused"},
		{"A to 10/8", a.NetNS, "10.254.77.7:80", "refused"},
		{"A to 172.16/12", a.NetNS, "172.20.1.1:80", "refused"},
		{"A to 192.168/16", a.NetNS, "192.168.77.7:80", "refused"},
		{"A to 100.64/10", a.NetNS, "100.64.7.7:80", "refused"},
		{"outside to A", ns, a.Addr.String() + ":8080", "refused"},
		{"host to the outside, untouched", "", "10.254.77.7:80", "open"},
	}
	for _, c := range cells {
		if got := try(t, c.from, "", c.to); got != c.want {
			t.Errorf("%s (%s): got %s, want %s", c.what, c.to, got, c.want)
		}
	}
	// A takes B's address as well: what it sends from there is dropped at once.
	inNS(t, a.NetNS, func() {
		l, err := netlink.LinkByName(insideName)
		if err == nil {
			err = netlink.AddrAdd(l, &netlink.Addr{IPNet: single(b.Addr)})
		}
		if err != nil {
			t.Error(err)
		}
	})
	if got := try(t, a.NetNS, b.Addr.String(), internet+":80"); got != "silent" {
		t.Errorf("spoofed source: got %s, want silent", got)
	}
	inNS(t, a.NetNS, func() {
		ifs, _ := net.Interfaces()
		for _, i := range ifs {
			for _, ad := range addrsOf(i) {
				if strings.Contains(ad, ":") {
					t.Errorf("IPv6 address %s on %s inside", ad, i.Name)
				}
			}
		}
	})
}

func addrsOf(i net.Interface) []string {
	var out []string
	all, _ := i.Addrs()
	for _, a := range all {
		out = append(out, a.String())
	}
	return out
}

func TestNetwork_NewWhileInstancesRun_KeepsThemConnected(t *testing.T) {
	n := newTestNetwork(t, nil)
	a := attach(t, n, "app-1-1-0")
	listen(t, a.NetNS, "0.0.0.0:8080")
	again, err := New(n.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := try(t, "", "", a.Addr.String()+":8080"); got != "open" {
		t.Errorf("after a restart: %s", got)
	}
	if same, err := again.Reserve("app-1-1-0"); err != nil || same != a {
		t.Errorf("got %+v, %v; want %+v", same, err, a)
	}
	if other, _ := again.Reserve("app-1-2-0"); other.Addr == a.Addr {
		t.Error("the address of a live instance was given away")
	}
}

func TestNetwork_FirewallGone_IsPutBackByAttachAndSweep(t *testing.T) {
	n := newTestNetwork(t, nil)
	a := attach(t, n, "app-1-1-0")
	listen(t, a.NetNS, "0.0.0.0:8080")
	if err := n.fw.remove(); err != nil {
		t.Fatal(err)
	}
	b := attach(t, n, "app-1-2-0")
	for _, to := range []Attachment{a, b} {
		listen(t, to.NetNS, "0.0.0.0:8081")
		if got := try(t, "", "", to.Addr.String()+":8081"); got != "open" {
			t.Errorf("%s after attach: %s", to.Addr, got)
		}
	}
	if got := try(t, b.NetNS, "", a.Addr.String()+":8080"); got != "refused" {
		t.Errorf("B to A: %s", got)
	}
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	c.FlushTable(n.fw.table()) // chains stay, rules go
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	removed, err := n.Sweep(func(string) bool { return true })
	if err != nil || len(removed) != 1 || !n.fw.intact() {
		t.Errorf("sweep: %v, %v", removed, err)
	}
	if got := try(t, b.NetNS, "", a.Addr.String()+":8080"); got != "refused" {
		t.Errorf("B to A after sweep: %s", got)
	}
}

func TestNetwork_Attach_LeavesNoThreadBehind(t *testing.T) {
	n := newTestNetwork(t, nil)
	home, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		attach(t, n, fmt.Sprintf("app-1-%d-0", i))
	}
	threads, _ := filepath.Glob("/proc/self/task/*/ns/net")
	for _, th := range threads {
		if ns, err := os.Readlink(th); err == nil && ns != home {
			t.Errorf("thread %s is in %s", th, ns)
		}
	}
}

func TestNetwork_AttachTwiceAndDetachTwice(t *testing.T) {
	n := newTestNetwork(t, nil)
	a := attach(t, n, "app-1-1-0")
	if b := attach(t, n, "app-1-1-0"); a != b {
		t.Errorf("got %+v, want %+v", b, a)
	}
	for range 2 {
		if err := n.Detach("app-1-1-0"); err != nil {
			t.Fatal(err)
		}
	}
	if left := remains(t, n); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if got := try(t, "", "", a.Addr.String()+":8080"); !strings.Contains(got, "no route to host") {
		t.Errorf("host to an address that nobody has: %s; it must not leave the machine", got)
	}
}

func TestNetwork_SweepAndDownRemoveEverythingOfOurs(t *testing.T) {
	n := newTestNetwork(t, nil)
	keep := attach(t, n, "app-1-1-0")
	attach(t, n, "app-1-2-0")
	stray := linkPrefix(n.cfg.ID) + "abcdef0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: stray}, PeerName: "st" + n.cfg.ID}); err != nil {
		t.Fatal(err)
	}
	removed, err := n.Sweep(func(id string) bool { return id == "app-1-1-0" })
	slices.Sort(removed)
	if want := []string{"interface " + stray, "network of app-1-2-0"}; err != nil || !slices.Equal(removed, want) {
		t.Errorf("got %v, %v; want %v", removed, err, want)
	}
	listen(t, keep.NetNS, "0.0.0.0:8080")
	if got := try(t, "", "", keep.Addr.String()+":8080"); got != "open" {
		t.Errorf("the kept one: %s", got)
	}
	if err := Down(n.cfg.ID, n.cfg.RunDir); err != nil {
		t.Fatal(err)
	}
	if left := remains(t, n); len(left) > 0 || n.fw.intact() {
		t.Errorf("left: %v", left)
	}
	if left, err := netlink.RouteListFiltered(unix.AF_INET, unreachable(n.cfg.ID, n.cfg.Subnet), netlink.RT_FILTER_DST); err != nil || len(left) > 0 {
		t.Errorf("routes left: %v, %v", left, err)
	}
}

// remains lists the interfaces and namespaces of n.
func remains(t *testing.T, n *Network) []string {
	t.Helper()
	var out []string
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, linkPrefix(n.cfg.ID)) {
			out = append(out, l.Attrs().Name)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, n.cfg.RunDir) {
			out = append(out, line)
		}
	}
	return out
}

func TestAddresses_RestBeforeReuse_AcrossRestart(t *testing.T) {
	now := time.Now()
	path := filepath.Join(t.TempDir(), "addresses.json")
	open := func() *addresses {
		return openAddresses(path, netip.MustParsePrefix("10.9.8.0/28"), 10*time.Minute, func() time.Time { return now })
	}
	a := open()
	got := map[netip.Addr]bool{}
	for i := range 13 { // 16 without network, gateway and broadcast
		at, err := a.take(fmt.Sprint("i", i))
		if err != nil || got[at] {
			t.Fatalf("take %d: %v, %v", i, at, err)
		}
		got[at] = true
	}
	for _, no := range []string{"10.9.8.0", "10.9.8.1", "10.9.8.15"} {
		if got[netip.MustParseAddr(no)] {
			t.Errorf("%s was given out", no)
		}
	}
	if err := a.release("i5"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(9 * time.Minute)
	a = open()
	if at, err := a.take("new"); !errors.Is(err, ErrNoAddress) {
		t.Errorf("after 9 minutes: %v, %v", at, err)
	}
	now = now.Add(61 * time.Second)
	if at, err := a.take("new"); err != nil || at != netip.MustParseAddr("10.9.8.7") {
		t.Errorf("after 10 minutes: %v, %v", at, err)
	}
}

func BenchmarkAttachDetach(b *testing.B) {
	n, err := New(Config{ID: "beefed", RunDir: b.TempDir(), Subnet: netip.MustParsePrefix("10.219.0.0/16")})
	if err != nil {
		b.Fatal(err)
	}
	defer Down("beefed", n.cfg.RunDir)
	var in, out time.Duration
	for i := range b.N {
		id := fmt.Sprint("x-", i)
		t0 := time.Now()
		at, err := n.Reserve(id)
		if err != nil {
			b.Fatal(err)
		}
		if err := n.Attach(b.Context(), id, at); err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		if err := n.Detach(id); err != nil {
			b.Fatal(err)
		}
		in += t1.Sub(t0)
		out += time.Since(t1)
	}
	b.ReportMetric(float64(in.Microseconds())/float64(b.N)/1000, "ms/attach")
	b.ReportMetric(float64(out.Microseconds())/float64(b.N)/1000, "ms/detach")
}
