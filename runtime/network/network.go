// Package network gives each instance an address, a network namespace with a
// routed veth, and the firewall around it: nothing reaches an instance but the
// host, and an instance reaches nothing but the internet, the configured
// resolvers and the configured mirrors. The rules are in force before an
// instance's first packet; when they cannot be, Attach fails.
//
// What it makes outside the data folder carries the installation's ID (see
// docs/contracts.md). It imports neither internal/paas nor other runtime
// packages. Start reading at New and Attach, then link.go (namespace and veth),
// firewall.go (nftables) and addresses.go.
package network

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// DefaultSubnet is where instances get addresses unless the configuration says
// otherwise: a part of 10/8 that neither Docker nor Kubernetes takes by default.
const DefaultSubnet = "10.208.0.0/16"

// DefaultRest is how long an address is not given out again: longer than any
// router or client keeps a connection to its former holder.
const DefaultRest = 10 * time.Minute

// ErrNoAddress means that every address of the subnet is held or rests.
var ErrNoAddress = errors.New("no free address")

// Config says what an installation's network looks like.
type Config struct {
	ID     string       // of the installation, 6 hex digits
	RunDir string       // DATA/run; must exist
	Subnet netip.Prefix // IPv4, /8 to /28; zero means DefaultSubnet
	// Resolvers are the DNS servers that instances may ask (port 53) and find in
	// their resolv.conf; nil means those of the host.
	Resolvers []netip.Addr
	// Mirrors are reachable on any port although private or reserved.
	Mirrors []netip.Prefix
	// Hold is cmd/slipway-init; with it every instance gets a user namespace. ""
	// means that instances are in the host's.
	Hold string
	Rest time.Duration    // 0 means DefaultRest
	Now  func() time.Time // nil means time.Now
}

// Attachment is an instance's place in the network.
type Attachment struct {
	Addr     netip.Addr
	NetNS    string // path of the pinned namespace
	UserNS   string // path of the pinned user namespace that owns it; "" = the host's
	FirstUID uint32 // what 0 is inside; UserRange follow
}

// Network attaches instances. Safe for concurrent use, but for two calls about
// the same instance, which the caller keeps apart.
type Network struct {
	cfg       Config
	gateway   netip.Addr // on the host's side of every veth
	mtu       int
	host      *netlink.Handle
	addresses *addresses
	fw        *firewall
	close     sync.Once
}

var installationID = regexp.MustCompile(`^[0-9a-f]{6}$`)

// New makes forwarding and the firewall ready and reads which addresses are held.
// It may be called while instances run: their rules are replaced in one
// transaction.
func New(cfg Config) (*Network, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	for _, d := range []string{"netns", "userns"} {
		if err := os.MkdirAll(filepath.Join(cfg.RunDir, d), 0o711); err != nil {
			return nil, fmt.Errorf("network: %w", err)
		}
	}
	host, err := netlink.NewHandle()
	if err != nil {
		return nil, fmt.Errorf("network: open netlink: %w", err)
	}
	n := &Network{cfg: cfg, gateway: cfg.Subnet.Addr().Next(), mtu: uplinkMTU(host), host: host}
	n.addresses = openAddresses(filepath.Join(cfg.RunDir, "addresses.json"), cfg.Subnet, cfg.Rest, cfg.Now)
	n.fw = &firewall{cfg: cfg, bridge: linkPrefix(cfg.ID) + "b"}
	if err := n.prepare(); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func (n *Network) prepare() error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return fmt.Errorf("network: turn forwarding on: %w", err)
	}
	if err := n.fw.replace(n.sources()); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	if err := n.addresses.sync(); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	// Without it packets to an instance that is gone would take the default route
	// and leave the machine; with it the sender is told at once.
	if err := n.host.RouteReplace(unreachable(n.cfg.ID, n.cfg.Subnet)); err != nil {
		return fmt.Errorf("network: add route for %s: %w", n.cfg.Subnet, err)
	}
	return nil
}

// Close lets go of the netlink socket; nothing is detached.
func (n *Network) Close() { n.close.Do(n.host.Close) }

// Resolvers are the DNS servers that instances can reach, at most 3.
func (n *Network) Resolvers() []netip.Addr { return n.cfg.Resolvers }

// Reserve gives id its address; the same ID gets the same address until Detach.
// ErrNoAddress.
func (n *Network) Reserve(id string) (Attachment, error) {
	a, err := n.addresses.take(id)
	if err != nil {
		return Attachment{}, err
	}
	at := Attachment{Addr: a, NetNS: n.nsPath(id)}
	if n.cfg.Hold != "" {
		at.UserNS, at.FirstUID = n.userPath(id), n.firstUID(a)
	}
	return at, nil
}

// Attach makes the namespaces, the veth and the rules of id from what Reserve
// gave. A caller that cannot use a user namespace empties UserNS and FirstUID before. What
// an earlier, cut off Attach left is made anew, so it must not be called for an
// instance that runs.
func (n *Network) Attach(ctx context.Context, id string, at Attachment) error {
	if other := n.addresses.sharing(id, n.linkName); other != "" {
		return fmt.Errorf("attach %s: its interface name is that of %s; try again under another ID", id, other)
	}
	// The rules first: without its entry in the sources set a veth is mute.
	if err := n.fw.allow(n.linkName(id), at.Addr, n.sources); err != nil {
		return fmt.Errorf("attach %s: %w", id, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := n.plug(id, at); err != nil {
		return fmt.Errorf("attach %s: %w", id, err)
	}
	return nil
}

// Detach removes all of id; its address rests. Absent: nil.
func (n *Network) Detach(id string) error {
	errs := []error{n.unplug(id)}
	if a, held := n.addresses.of(id); held {
		errs = append(errs, n.fw.forbid(n.linkName(id), a), n.addresses.release(id))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("detach %s: %w", id, err)
	}
	return nil
}

// Sweep removes what belongs to no ID for which owned is true, puts the firewall
// back if somebody removed it, and says what it did.
func (n *Network) Sweep(owned func(id string) bool) (removed []string, err error) {
	names := map[string]bool{}
	ids := n.addresses.ids()
	for _, id := range ids {
		names[n.linkName(id)] = true
	}
	pinned, err := os.ReadDir(filepath.Join(n.cfg.RunDir, "netns"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("sweep network: %w", err)
	}
	for _, p := range pinned {
		ids = append(ids, p.Name())
	}
	slices.Sort(ids)
	var errs []error
	for _, id := range slices.Compact(ids) {
		if owned(id) {
			continue
		}
		if err := n.Detach(id); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, "network of "+id)
	}
	links, err := n.strayLinks(names)
	errs = append(errs, err)
	removed = append(removed, links...)
	if !n.fw.intact() {
		if err := n.fw.replace(n.sources()); err != nil {
			errs = append(errs, err)
		} else {
			removed = append(removed, "altered firewall table "+n.fw.table().Name)
		}
	}
	return removed, errors.Join(errs...)
}

// Down removes everything that any Network with this ID and run folder made. It
// needs no Network and no running server.
func Down(id, runDir string) error {
	if !installationID.MatchString(id) {
		return fmt.Errorf("network down: installation ID %q is not 6 hex digits", id)
	}
	host, err := netlink.NewHandle()
	if err != nil {
		return fmt.Errorf("network down: open netlink: %w", err)
	}
	defer host.Close()
	n := &Network{cfg: Config{ID: id, RunDir: runDir}, host: host}
	var errs []error
	pinned, err := os.ReadDir(filepath.Join(runDir, "netns"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, p := range pinned {
		errs = append(errs, n.unplug(p.Name()))
	}
	_, err = n.strayLinks(nil)
	errs = append(errs, err, (&firewall{cfg: n.cfg}).remove())
	if subnet, ok := savedSubnet(filepath.Join(runDir, "addresses.json")); ok {
		errs = append(errs, ignore(host.RouteDel(unreachable(id, subnet)), unix.ESRCH))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("network down: %w", err)
	}
	return nil
}

func (n *Network) sources() []source {
	var out []source
	for id, a := range n.addresses.held() {
		out = append(out, source{n.linkName(id), a})
	}
	return out
}

func (n *Network) nsPath(id string) string { return filepath.Join(n.cfg.RunDir, "netns", id) }

func (n *Network) userPath(id string) string { return filepath.Join(n.cfg.RunDir, "userns", id) }

// linkName fits the 15 characters of an interface name.
func (n *Network) linkName(id string) string {
	sum := sha256.Sum256([]byte(id))
	return linkPrefix(n.cfg.ID) + hex.EncodeToString(sum[:4])[:7]
}

func linkPrefix(id string) string { return "sl" + id }

func (c *Config) complete() error {
	if !installationID.MatchString(c.ID) {
		return fmt.Errorf("installation ID %q is not 6 hex digits", c.ID)
	}
	if !c.Subnet.IsValid() {
		c.Subnet = netip.MustParsePrefix(DefaultSubnet)
	}
	c.Subnet = c.Subnet.Masked()
	if bits := c.Subnet.Bits(); !c.Subnet.Addr().Is4() || bits < 8 || bits > 28 {
		return fmt.Errorf("subnet %s is not an IPv4 network between /8 and /28", c.Subnet)
	}
	if c.Rest == 0 {
		c.Rest = DefaultRest
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Resolvers == nil {
		c.Resolvers = hostResolvers()
	}
	if len(c.Resolvers) > 3 { // what resolv.conf(5) reads
		c.Resolvers = c.Resolvers[:3]
	}
	return nil
}
