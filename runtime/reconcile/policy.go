package reconcile

import (
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// Policy holds the numbers of the rolling strategy. The zero value means the
// defaults.
type Policy struct {
	// Surge is how many instances beyond the wanted count may exist during a
	// deployment, and how many old ones stay warm while the new release is watched.
	Surge func(instances int) int // nil means max(1, instances/4 rounded up)
	Watch time.Duration           // 0 means paas.DefaultWatch
	Drain time.Duration           // limit for requests in flight; 0 means 30 s
	// Domains are those under which apps answer as "<app>.<domain>".
	Domains []string // nil means "localhost"
}

const defaultDrain = 30 * time.Second

func (p Policy) withDefaults() Policy {
	if p.Surge == nil {
		p.Surge = func(n int) int { return max(1, (n+3)/4) }
	}
	if p.Watch == 0 {
		p.Watch = paas.DefaultWatch
	}
	if p.Drain == 0 {
		p.Drain = defaultDrain
	}
	if len(p.Domains) == 0 {
		p.Domains = []string{"localhost"}
	}
	return p
}

func (p Policy) hosts(app string) []string {
	hosts := make([]string, 0, len(p.Domains))
	for _, d := range p.Domains {
		hosts = append(hosts, app+"."+d)
	}
	return hosts
}
