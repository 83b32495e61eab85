// Package accfile reads the two files of Oracle Application Container Cloud,
// manifest.json and deployment.json. It takes what real files hold (numbers and
// booleans as strings, names in any case, unknown names) and refuses the rest with
// line and column as *paas.Error of CodeInvalid.
//
// It executes nothing and imports internal/paas and the standard library only.
// Start with ParseManifest; json.go is the parser that knows places.
package accfile

import (
	"strings"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// Manifest is manifest.json. Zero fields were not given.
type Manifest struct {
	MajorVersion string       // runtime.majorVersion
	Type         paas.AppType // "" = not said
	Command      string       // run through a shell
	StartupTime  time.Duration
	ShutdownTime *time.Duration // nil = not said; 0 means at once
	HealthPath   string         // begins with "/"
	Release      map[string]string
	// Unused lists known names that have no effect yet, Unknown those nobody knows.
	Unused  []string
	Unknown []string
}

// minStartup is ACC's lower bound of startupTime.
const minStartup = 10 * time.Second

// ParseManifest reads a manifest.json.
func ParseManifest(text []byte) (*Manifest, error) {
	doc, root, err := parseObject("manifest.json", text)
	if err != nil {
		return nil, err
	}
	m := &Manifest{}
	r := newReader(doc, "", root, &m.Unknown)
	m.MajorVersion = majorVersion(r)
	m.Type = paas.AppType(r.choice("type", string(paas.TypeWeb), string(paas.TypeWorker)))
	m.Command = strings.TrimSpace(r.text("command"))
	if strings.ContainsRune(m.Command, 0) {
		v, _ := r.get("command")
		r.fail(v, "command holds a NUL character")
	}
	m.StartupTime, _ = r.seconds("startupTime", minStartup, paas.MaxStartupTime)
	if grace, ok := r.seconds("shutdownTime", 0, paas.MaxShutdownGrace); ok {
		m.ShutdownTime = &grace
	}
	m.HealthPath = healthPath(r)
	m.Release = release(r)
	m.Unused = unused(r)
	if err := r.done(); err != nil {
		return nil, err
	}
	return m, nil
}

func majorVersion(r *reader) string {
	c := r.child("runtime")
	if c == nil {
		return ""
	}
	defer r.close(c)
	return strings.TrimSpace(c.text("majorVersion"))
}

func healthPath(r *reader) string {
	c := r.child("healthCheck")
	if c == nil {
		return ""
	}
	defer r.close(c)
	path := strings.TrimSpace(c.text("http-endpoint"))
	if path == "" {
		return ""
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	for _, bad := range path {
		if bad <= ' ' || bad == 0x7f {
			v, _ := c.get("http-endpoint")
			c.fail(v, "healthCheck.http-endpoint %q holds a blank or control character; write a path such as /health", path)
			return ""
		}
	}
	return path
}

func release(r *reader) map[string]string {
	c := r.child("release")
	if c == nil {
		return nil
	}
	defer r.close(c)
	out := map[string]string{}
	for _, name := range []string{"build", "commit", "version"} {
		if s := c.text(name); s != "" {
			out[name] = s
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// unused checks the known fields that nothing acts on yet and names those that
// ask for something.
func unused(r *reader) []string {
	var out []string
	note := func(name string, asks bool) {
		if asks {
			out = append(out, name)
		}
	}
	r.text("notes")
	r.choice("mode", "rolling") // every deployment rolls
	note("isClustered", r.boolean("isClustered"))
	note("home", r.text("home") != "" && r.text("home") != "/")
	note("loadBalancingPolicy", r.choice("loadBalancingPolicy", "ROUND_ROBIN", "IP_HASH") == "IP_HASH")
	note("requiresAntiAffinity", r.boolean("requiresAntiAffinity"))
	return out
}
