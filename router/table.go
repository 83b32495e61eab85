package router

import (
	"fmt"
	"net/netip"

	"github.com/slipway-paas/slipway/internal/paas"
)

// table is one applied paas.Table, ready for lookups. It never changes.
type table struct {
	src   paas.Table // as received, for the file and the admin socket
	hosts map[string]*app
	saved bool // read from disk and not yet confirmed by the control plane
}

// app is one app's part of a table.
type app struct {
	paas.RouteTable
	instances []*instance
}

// newTable builds a table and says which records it left out. A bad record is
// refused alone: one app's mistake never costs another its routes.
func newTable(src paas.Table, instances *instances) (t *table, refused []error) {
	t = &table{src: src, hosts: make(map[string]*app, len(src.Apps))}
	refuse := func(a paas.RouteTable, format string, args ...any) {
		refused = append(refused, fmt.Errorf("app %q: "+format, append([]any{a.App}, args...)...))
	}
	owner := map[string]string{} // instance ID to app ID
	for _, r := range src.Apps {
		if r.AppID == "" {
			refuse(r, "no app ID")
			continue
		}
		a := &app{RouteTable: r}
		for _, h := range r.Hosts {
			name, ok := NormalizeHost(h)
			switch {
			case !ok || name != h:
				refuse(r, "host %q is not in normal form", h)
			case t.hosts[h] != nil:
				refuse(r, "host %q belongs to app %q", h, t.hosts[h].App)
			default:
				t.hosts[h] = a
			}
		}
		for _, e := range r.Endpoints {
			if err := checkEndpoint(e); err != nil {
				refuse(r, "endpoint: %w", err)
				continue
			}
			if id, taken := owner[e.Instance]; taken {
				refuse(r, "instance %q is already an endpoint of app %s", e.Instance, id)
				continue
			}
			owner[e.Instance] = r.AppID
			a.instances = append(a.instances, instances.keep(e))
		}
	}
	return t, refused
}

func checkEndpoint(e paas.Endpoint) error {
	if e.Instance == "" {
		return fmt.Errorf("address %q has no instance", e.Addr)
	}
	addr, err := netip.ParseAddrPort(e.Addr)
	if err != nil || addr.Port() == 0 || addr.Addr().IsUnspecified() || addr.Addr().IsMulticast() {
		return fmt.Errorf("instance %q has no usable address %q", e.Instance, e.Addr)
	}
	return nil
}

// current lists the instances that requests may be sent to.
func (t *table) current() map[*instance]bool {
	current := map[*instance]bool{}
	for _, a := range t.hosts {
		for _, in := range a.instances {
			current[in] = true
		}
	}
	return current
}
