package accfile

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/slipway-paas/slipway/internal/paas"
)

// Deployment is deployment.json. Zero fields were not given.
type Deployment struct {
	MemoryBytes int64 // per instance
	Instances   int
	Environment map[string]string // values may be secrets
	Unused      []string
	Unknown     []string
}

var (
	envName    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)
	memorySize = regexp.MustCompile(`^([0-9]{1,6})\s*([GM])[Bb]?$`)
)

// ParseDeployment reads a deployment.json.
func ParseDeployment(text []byte) (*Deployment, error) {
	doc, root, err := parseObject("deployment.json", text)
	if err != nil {
		return nil, err
	}
	d := &Deployment{}
	r := newReader(doc, "", root, &d.Unknown)
	d.MemoryBytes = memory(r)
	d.Instances, _ = r.number("instances", 1, paas.MaxInstances, "")
	d.Environment = environment(r)
	secureNames(r, d.Environment)
	r.text("notes")
	for _, name := range []string{"services", "java_system_properties"} {
		if v, ok := r.get(name); ok && !empty(v) {
			d.Unused = append(d.Unused, name)
		}
	}
	if err := r.done(); err != nil {
		return nil, err
	}
	return d, nil
}

func empty(v value) bool {
	list, isList := v.data.([]value)
	return isList && len(list) == 0 || !isList && v.members != nil && len(v.members) == 0
}

func memory(r *reader) int64 {
	text := strings.TrimSpace(r.text("memory"))
	if text == "" {
		return 0
	}
	v, _ := r.get("memory")
	m := memorySize.FindStringSubmatch(strings.ToUpper(text))
	if m == nil {
		r.fail(v, `memory is %q; write a size such as "2G" or "512M"`, text)
		return 0
	}
	n, _ := strconv.ParseInt(m[1], 10, 64) // at most six digits
	size := n << 30
	if m[2] == "M" {
		size = n << 20
	}
	if size < paas.MinMemoryBytes || size > paas.MaxMemoryBytes {
		r.fail(v, "memory is %s, allowed is %dM to %dG", text, paas.MinMemoryBytes>>20, int64(paas.MaxMemoryBytes)>>30)
		return 0
	}
	return size
}

func environment(r *reader) map[string]string {
	c := r.child("environment")
	if c == nil {
		return nil
	}
	defer r.close(c)
	out := map[string]string{}
	for _, m := range c.object {
		c.known[strings.ToLower(m.name)] = true
		s, ok := scalar(m.value)
		switch {
		case !envName.MatchString(m.name):
			c.fail(value{offset: m.offset}, "%q is no name of an environment variable", m.name)
		case !ok:
			c.fail(m.value, "environment.%s must be a string, found %s", m.name, m.value.kind())
		case strings.ContainsRune(s, 0):
			c.fail(m.value, "environment.%s holds a NUL character", m.name)
		}
		out[m.name] = s
	}
	return out
}

// secureNames checks that what is to be masked exists. Every value is masked and
// encrypted anyway.
func secureNames(r *reader, env map[string]string) {
	v, ok := r.get("secureEnvironment")
	if !ok {
		return
	}
	list, ok := v.data.([]value)
	if !ok {
		r.fail(v, "secureEnvironment must be a list of names, found %s", v.kind())
		return
	}
	for _, item := range list {
		name, ok := item.data.(string)
		if _, exists := env[name]; !ok || !exists {
			r.fail(item, "secureEnvironment names something that is not in environment")
			return
		}
	}
}
