// Package node plans Node.js apps: archives that carry node_modules (nothing is
// installed) and sources with package.json (npm, pnpm or yarn installs, a build
// script may compile).
//
// It imports buildpacks/source, buildpacks/plan and internal/paas; it executes
// nothing. Start with Plan; the choice of version is in version.go, of the package
// manager in manager.go, of the start command in start.go.
package node

import (
	"fmt"
	"strings"

	"github.com/slipway-paas/slipway/buildpacks/plan"
	"github.com/slipway-paas/slipway/buildpacks/source"
	"github.com/slipway-paas/slipway/internal/paas"
)

// Buildpack implements buildpacks.Buildpack.
type Buildpack struct{}

// entryFiles are started with node when nothing else is said, in this order.
var entryFiles = []string{"server.js", "index.js", "app.js", "main.js", "server.mjs", "index.mjs", "app.mjs", "main.mjs"}

// Name is "node".
func (Buildpack) Name() string { return "node" }

// LookedFor lists what Detect looks for.
func (Buildpack) LookedFor() string {
	return "package.json, " + strings.Join(entryFiles[:4], ", ") + ", a start command with node"
}

// Detect reports whether this is a Node.js app.
func (Buildpack) Detect(src *source.Source) (string, bool) {
	if src.IsFile("package.json") {
		return "package.json", true
	}
	t, _ := src.AppType()
	command, why := src.Command(t)
	for _, word := range strings.Fields(command) {
		switch word[strings.LastIndexByte(word, '/')+1:] {
		case "node", "npm", "npx", "yarn", "pnpm":
			return why, true
		}
	}
	if f := entryFile(src); f != "" && command == "" {
		return f, true
	}
	return "", false
}

func entryFile(src *source.Source) string {
	for _, f := range entryFiles {
		if src.IsFile(f) {
			return f
		}
	}
	return ""
}

// planner is one Plan being made.
type planner struct {
	src *source.Source
	pkg *packageJSON // never nil
	p   *plan.Plan
	mgr *manager // nil when nothing is installed
	lck lockFacts
}

// Plan decides for a tree that Detect accepted.
func (Buildpack) Plan(src *source.Source) (*plan.Plan, error) {
	pkg, err := readPackage(src)
	if err != nil {
		return nil, err
	}
	n := &planner{src: src, pkg: pkg, p: &plan.Plan{}}
	if err := n.version(); err != nil {
		return nil, err
	}
	if err := n.kind(); err != nil {
		return nil, err
	}
	n.p.Env = []string{"NODE_ENV=production", "PATH=" + runtimePath}
	if err := n.start(); err != nil {
		return nil, err
	}
	n.install()
	return n.p, nil
}

// runtimePath puts the commands of dependencies first, as npm does.
const runtimePath = paas.InstanceHome + "/node_modules/.bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// kind decides whether the archive is ready to run.
func (n *planner) kind() error {
	p, deps := n.p, n.pkg.installed()
	p.App.Exclude = []string{".git", ".hg", ".svn"}
	modules := n.src.IsDir("node_modules")
	missing := n.missing(deps)
	mgr, mgrErr := n.manager() // matters only when it has to install
	switch {
	case len(deps) == 0 && !n.needsBuild():
		p.Kind, p.Why = plan.KindReady, "package.json names no dependencies and no build script"
		if !n.pkg.found {
			p.Why = "there is no package.json, so nothing is to be installed"
		}
	case modules && len(missing) == 0:
		p.Kind, p.Why = plan.KindReady, "node_modules is in the archive and holds every dependency"
	case modules && mgr.lock == "":
		p.Kind, p.Why = plan.KindReady, "node_modules is in the archive and there is no lock file"
		p.Warnings = append(p.Warnings, "node_modules lacks "+strings.Join(missing, ", ")+", which package.json asks for")
	case mgrErr != nil:
		return mgrErr
	default:
		p.Kind, p.Why = plan.KindSource, n.whySource(modules, missing, deps)
		n.mgr = mgr
	}
	p.Decide("kind", string(p.Kind), p.Why)
	if p.Kind == plan.KindReady && modules {
		p.App.Vendored = "node_modules"
	}
	return nil
}

func (n *planner) whySource(modules bool, missing, deps []string) string {
	switch {
	case modules:
		return "node_modules is in the archive, but lacks " + strings.Join(missing, ", ")
	case len(deps) == 0:
		return "package.json has a build script"
	}
	return fmt.Sprintf("node_modules is not in the archive; dependencies named in package.json: %d", len(deps))
}

// missing lists the dependencies without a folder in node_modules, at most five.
func (n *planner) missing(deps []string) []string {
	var out []string
	for _, d := range deps {
		if !n.pkg.isOptional(d) && !n.src.IsDir("node_modules/"+d) {
			if len(out) == 5 {
				return append(out, "…")
			}
			out = append(out, d)
		}
	}
	return out
}

func (n *planner) needsBuild() bool { return n.pkg.Scripts["build"] != "" }
