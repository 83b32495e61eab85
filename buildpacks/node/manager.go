package node

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/slipway-paas/slipway/buildpacks/plan"
	"github.com/slipway-paas/slipway/buildpacks/source"
)

// manager is the package manager that installs.
type manager struct {
	name    string // "npm", "pnpm", "yarn"
	pkg     string // npm package that carries it
	version string // exact
	lock    string // lock file, "" = none
	why     string
	berry   bool // yarn 2 and later
}

// lockFiles in the order in which they win.
var lockFiles = []struct{ file, manager string }{
	{"pnpm-lock.yaml", "pnpm"}, {"yarn.lock", "yarn"}, {"npm-shrinkwrap.json", "npm"}, {"package-lock.json", "npm"},
}

var exactManager = regexp.MustCompile(`^(npm|pnpm|yarn)@([0-9]+\.[0-9]+\.[0-9]+)`)

// manager decides by the packageManager field and the lock files.
func (n *planner) manager() (*manager, error) {
	m := &manager{name: "npm", why: "no lock file and no packageManager field in package.json"}
	for _, l := range lockFiles {
		if n.src.IsFile(l.file) {
			m.name, m.lock, m.why = l.manager, l.file, l.file
			break
		}
	}
	wanted := ""
	if f := exactManager.FindStringSubmatch(n.pkg.PackageManager); f != nil {
		own := ""
		for _, l := range lockFiles {
			if l.manager == f[1] && n.src.IsFile(l.file) && own == "" {
				own = l.file
			}
		}
		if own != "" || m.lock == "" {
			m.name, m.lock, wanted = f[1], own, f[2]
			m.why = fmt.Sprintf("packageManager %q in package.json", f[1]+"@"+f[2])
		}
	}
	if err := n.readLock(m); err != nil {
		return nil, err
	}
	return m, n.managerVersion(m, wanted)
}

// managerVersion picks the exact version: the one asked for, else the one that
// matches the lock file's format and the Node version.
func (n *planner) managerVersion(m *manager, wanted string) error {
	m.pkg = m.name
	if wanted == "" {
		wanted = n.defaultRange(m)
	} else if m.name == "yarn" {
		m.berry = !strings.HasPrefix(wanted, "1.") && !strings.HasPrefix(wanted, "0.")
	}
	if m.berry {
		m.pkg = "@yarnpkg/cli-dist"
	}
	if wanted == "" {
		wanted = map[string]string{"pnpm": "10", "@yarnpkg/cli-dist": "4"}[m.pkg]
	}
	m.version = n.src.Catalog.Tool(m.pkg, wanted, n.p.Runtime.Version)
	if m.version == "" {
		return source.Failf(source.FailVersion, "change packageManager in package.json, or the version of Node.js",
			"there is no %s %s that runs on node %s", m.name, wanted, n.p.Runtime.Version)
	}
	return nil
}

func (n *planner) defaultRange(m *manager) string {
	switch {
	case m.name == "pnpm":
		return map[string]string{"5": "7", "6": "8", "9": "9 || 10"}[n.lck.pnpmFormat]
	case m.berry:
		// A newer one would migrate the lock file and then refuse what it changed.
		return map[string]string{"4": "2", "5": "3", "6": "3", "7": "3", "8": ">=4.0 <4.6"}[n.lck.berryFormat]
	case m.name == "yarn":
		return "1"
	}
	return npmRange(n.p.Runtime.Version)
}

// npmRange is the npm line that ships with a Node line; a newer one may change
// what an install does.
func npmRange(node string) string {
	major, _ := strconv.Atoi(strings.Split(node, ".")[0])
	switch {
	case major < 15:
		return "6"
	case major < 17:
		return "8"
	case major < 18:
		return "9"
	case major < 24:
		return "10"
	}
	return "11"
}

// lockFacts is what the choice of commands depends on.
type lockFacts struct {
	pnpmFormat    string            // major of lockfileVersion
	berryFormat   string            // __metadata.version of yarn 2 and later
	installScript string            // a package that runs code on install, "" = none or not known
	knowsScripts  bool              // installScript can be trusted to be complete
	git           bool              // something is fetched with git
	devBins       map[string]string // command → development package
}

const maxLockBytes = 64 << 20

func (n *planner) readLock(m *manager) error {
	n.lck = lockFacts{devBins: map[string]string{}}
	for d := range n.pkg.Dev { // the usual case: the command is called like its package
		n.lck.devBins[d[strings.LastIndexByte(d, '/')+1:]] = d
	}
	f := n.src.Open(m.lock)
	if m.lock == "" || f == nil {
		return nil
	}
	defer f.Close()
	r := io.LimitReader(f, maxLockBytes)
	switch m.name {
	case "npm":
		return n.readNpmLock(m.lock, r)
	case "pnpm":
		n.scan(r, func(line string) {
			if v, ok := strings.CutPrefix(line, "lockfileVersion:"); ok {
				n.lck.pnpmFormat, _, _ = strings.Cut(strings.Trim(v, ` '"`), ".")
			}
		})
	case "yarn":
		n.scan(r, func(line string) {
			m.berry = m.berry || strings.HasPrefix(line, "__metadata:")
			if v, ok := strings.CutPrefix(line, "  version: "); ok && m.berry && n.lck.berryFormat == "" {
				n.lck.berryFormat = strings.Trim(v, `"' `)
			}
		})
	}
	return nil
}

// scan looks at each line; a git source anywhere in it is noted.
func (n *planner) scan(r io.Reader, look func(string)) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		n.lck.git = n.lck.git || strings.Contains(lines.Text(), "git+") || strings.Contains(lines.Text(), "git@")
		look(lines.Text())
	}
}

func (n *planner) readNpmLock(name string, r io.Reader) error {
	var lock struct {
		LockfileVersion int
		Packages        map[string]struct {
			Dev              bool
			HasInstallScript bool
			Resolved         string
			Bin              json.RawMessage
		}
	}
	if err := json.NewDecoder(r).Decode(&lock); err != nil {
		return source.Failf(source.FailInvalidFile, "make it anew with `npm install --package-lock-only`", "%s is broken: %v", name, err)
	}
	n.lck.knowsScripts = lock.Packages != nil
	for path, p := range lock.Packages {
		pkg := path
		if i := strings.LastIndex(path, "node_modules/"); i >= 0 {
			pkg = path[i+len("node_modules/"):]
		}
		if path != "" && p.HasInstallScript && (n.lck.installScript == "" || pkg < n.lck.installScript) {
			n.lck.installScript = pkg
		}
		n.lck.git = n.lck.git || strings.HasPrefix(p.Resolved, "git")
		if strings.Count(path, "node_modules/") == 1 {
			n.bins(pkg, p.Dev, p.Bin)
		}
	}
	return nil
}

// bins learns which commands only development packages bring.
func (n *planner) bins(pkg string, dev bool, bin json.RawMessage) {
	var names map[string]string
	if json.Unmarshal(bin, &names) != nil {
		return
	}
	for name := range names {
		if dev {
			n.lck.devBins[name] = pkg
		} else {
			delete(n.lck.devBins, name)
		}
	}
}

// npm is part of every image: start commands may use it.
func (n *planner) tools(m *manager, atRuntime bool) error {
	npm := &manager{name: "npm"}
	if m != nil && m.name == "npm" {
		npm = m
	} else if err := n.managerVersion(npm, ""); err != nil {
		return err
	}
	n.p.Tools = []plan.Tool{{Package: plan.Package{Name: npm.pkg, Version: npm.version}, AtRuntime: true}}
	if m != nil && m.name != "npm" {
		n.p.Tools = append(n.p.Tools, plan.Tool{Package: plan.Package{Name: m.pkg, Version: m.version}, AtRuntime: atRuntime})
	}
	return nil
}
