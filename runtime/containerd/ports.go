package containerd

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/slipway-paas/slipway/runtime/driver"
)

// ListenPorts implements driver.Driver.
func (d *Driver) ListenPorts(ctx context.Context, id string) ([]string, error) {
	seen, err := d.look(inNamespace(ctx), id)
	if err == nil {
		err = runs(seen)
	}
	if err != nil {
		return nil, fmt.Errorf("ports of instance %s: %w", id, mapped(err))
	}
	var out []string
	for _, name := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(int(seen.task.Pid)) + "/net/" + name)
		if os.IsNotExist(err) && name == "tcp" {
			return nil, fmt.Errorf("ports of instance %s: %w", id, driver.ErrNotRunning)
		}
		if err != nil {
			continue // a kernel without IPv6
		}
		out = append(out, listening(string(b))...)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// listening reads the local addresses in state LISTEN from a /proc/net/tcp table
// (kernel: Documentation/networking/proc_net_tcp.rst).
func listening(table string) []string {
	const listen = "0A"
	var out []string
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 4 || f[3] != listen {
			continue
		}
		if a, ok := parseAddr(f[1]); ok {
			out = append(out, a.String())
		}
	}
	return out
}

// parseAddr reads "0100007F:0BB8": 32-bit words in host order (little endian on
// all that we run on), then the port.
func parseAddr(s string) (netip.AddrPort, bool) {
	host, port, ok := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || err2 != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	a, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), ok
}
