package node

import (
	"io/fs"
	"path"
	"slices"
	"sort"
	"strings"

	"github.com/slipway-paas/slipway/buildpacks/plan"
)

// install plans the dependency and build steps of a source.
func (n *planner) install() {
	if n.mgr == nil {
		return
	}
	p, m := n.p, n.mgr
	d := &plan.Dependencies{Manager: m.name}
	p.Dependencies = d
	version := m.name + " " + m.version
	p.Decide("package manager", version, m.why)
	n.lockSet(d)
	n.commands(d)
	p.App.Exclude = append(p.App.Exclude, "node_modules")
	if len(n.workspaces()) > 0 {
		p.App.Exclude = append(p.App.Exclude, "**/node_modules")
	}
	n.toolchain()
	if n.needsBuild() {
		p.Build = &plan.Build{Command: m.name + " run build", Env: []string{"NODE_ENV=production", "CI=true"}}
		p.Decide("build", p.Build.Command, "scripts.build in package.json")
	}
}

// commands writes the install lines. Build tools are development dependencies, so
// with a build step there are two installs: all for the build, and what runs for
// the image.
func (n *planner) commands(d *plan.Dependencies) {
	run, all := n.mgr.commands()
	if n.mgr.lock == "" {
		n.p.Warnings = append(n.p.Warnings, "there is no lock file: each build may install other versions; commit package-lock.json")
	}
	if s := n.pkg.gitHookScript(); s != "" {
		drop := "npm pkg delete scripts." + s + " && "
		run, all = drop+run, drop+all
		n.p.Decide("scripts."+s, "left out of the install", "it only sets up git hooks")
	}
	d.Command = run
	why := "development dependencies left out"
	if dev := n.devAtRuntime(); dev != "" {
		d.Command, why = all, "with development dependencies: the start command uses "+dev
	} else if n.needsBuild() && len(n.pkg.Dev) > 0 {
		d.BuildCommand = all
		why = "all for the build, without development dependencies in the image"
	}
	n.p.Decide("install", d.Command, why)
	if n.mgr.lock == "" {
		d.Env = append(d.Env, "npm_config_package_lock=false")
	}
	d.Env = append(d.Env, n.mgr.env()...)
	d.Caches = []plan.Cache{{Name: n.mgr.name, Path: cachePath}}
}

// cachePath is where package managers keep downloads during a step.
const cachePath = "/cache"

func (m *manager) commands() (run, all string) {
	switch {
	case m.name == "npm" && m.lock != "":
		return "npm ci --omit=dev", "npm ci --include=dev"
	case m.name == "npm":
		return "npm install --omit=dev", "npm install --include=dev"
	case m.name == "pnpm" && m.lock != "":
		return "pnpm install --frozen-lockfile --prod", "pnpm install --frozen-lockfile"
	case m.name == "pnpm":
		return "pnpm install --no-frozen-lockfile --prod", "pnpm install --no-frozen-lockfile"
	case !m.berry && m.lock != "":
		return "yarn install --frozen-lockfile --non-interactive --production=true", "yarn install --frozen-lockfile --non-interactive --production=false"
	case !m.berry:
		return "yarn install --non-interactive --production=true", "yarn install --non-interactive --production=false"
	case m.lock == "":
		return "yarn install", "yarn install"
	case strings.HasPrefix(m.version, "2.") || strings.HasPrefix(m.version, "3."):
		// Leaving out development dependencies is a plugin there.
		return "yarn install --immutable", "yarn install --immutable"
	}
	return "yarn workspaces focus --all --production", "yarn install --immutable"
}

func (m *manager) env() []string {
	switch {
	case m.name == "npm":
		return []string{"npm_config_cache=" + cachePath, "npm_config_audit=false", "npm_config_fund=false", "npm_config_update_notifier=false"}
	case m.name == "pnpm":
		return []string{"CI=true", "npm_config_store_dir=" + cachePath, "npm_config_manage_package_manager_versions=false"}
	case m.berry:
		return []string{"YARN_NODE_LINKER=node-modules", "YARN_GLOBAL_FOLDER=" + cachePath, "YARN_ENABLE_GLOBAL_CACHE=true", "YARN_ENABLE_TELEMETRY=false", "YARN_IGNORE_PATH=true"}
	}
	return []string{"YARN_CACHE_FOLDER=" + cachePath, "YARN_IGNORE_PATH=1"}
}

// lockSet lists the files the install may read. Whatever makes an install depend
// on more than the lock file widens it.
func (n *planner) lockSet(d *plan.Dependencies) {
	if s := n.pkg.installScript(); s != "" {
		d.Whole = true
		n.p.Decide("dependency key", "the whole source", "scripts."+s+" in package.json may read any file")
		return
	}
	if n.pkg.local() {
		d.Whole = true
		n.p.Decide("dependency key", "the whole source", "a dependency lies in the archive itself")
		return
	}
	for _, f := range []string{"package.json", ".npmrc", ".yarnrc", ".yarnrc.yml", "pnpm-workspace.yaml", ".pnpmfile.cjs", n.mgr.lock} {
		if f != "" && n.src.IsFile(f) {
			d.Files = append(d.Files, f)
		}
	}
	for _, dir := range []string{"patches", ".yarn/patches", ".yarn/plugins"} {
		d.Files = append(d.Files, n.filesIn(dir)...)
	}
	d.Files = append(d.Files, n.workspaces()...)
	sort.Strings(d.Files)
	d.Files = slices.Compact(d.Files)
	n.p.Decide("dependency key", strings.Join(d.Files, ", "), "nothing else is read by the install")
}

func (n *planner) filesIn(dir string) (out []string) {
	if !n.src.IsDir(dir) {
		return nil
	}
	n.walk(dir, func(p string) { out = append(out, p) })
	return out
}

// workspaces lists the package.json of every workspace.
func (n *planner) workspaces() (out []string) {
	if len(n.pkg.Workspaces) == 0 && !n.src.IsFile("pnpm-workspace.yaml") {
		return nil
	}
	n.walk(".", func(p string) {
		if path.Base(p) == "package.json" && p != "package.json" {
			out = append(out, p)
		}
	})
	return out
}

// walk visits files outside node_modules and hidden folders. A folder that cannot
// be listed has no files for us; reading one later says why.
func (n *planner) walk(dir string, visit func(string)) {
	_ = fs.WalkDir(n.src.FS, dir, func(p string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fs.SkipDir
		case e.IsDir() && (e.Name() == "node_modules" || e.Name() == ".git"):
			return fs.SkipDir
		case e.Type().IsRegular():
			visit(p)
		}
		return nil
	})
}

// toolchain asks for compilers where a package may compile something.
func (n *planner) toolchain() {
	switch {
	case n.lck.git:
		n.p.Toolchain = true
		n.p.Decide("toolchain", "yes", n.mgr.lock+" has a dependency from git")
	case n.lck.installScript != "":
		n.p.Toolchain = true
		n.p.Decide("toolchain", "yes", n.lck.installScript+" runs a script on install and may compile")
	case n.lck.knowsScripts:
		n.p.Decide("toolchain", "no", "no dependency runs a script on install")
	case n.src.IsFile("binding.gyp"):
		n.p.Toolchain = true
		n.p.Decide("toolchain", "yes", "binding.gyp")
	case len(n.pkg.Dependencies)+len(n.pkg.Dev) > 0:
		n.p.Toolchain = true
		n.p.Decide("toolchain", "yes", "a dependency may compile; the lock file does not tell")
	}
}
