package llb

import (
	"strings"
	"time"

	"github.com/moby/buildkit/client/llb"

	"github.com/slipway-paas/slipway/builder/base"
	"github.com/slipway-paas/slipway/buildpacks/plan"
	"github.com/slipway-paas/slipway/internal/paas"
)

// Names of the steps, in the order of the ledger.
const (
	StepBase         = "base"
	StepRuntime      = "runtime"
	StepDependencies = "dependencies"
	StepBuild        = "build"
	StepApp          = "app"
	StepExport       = "export"
)

// Names of the inputs that are read from the archive.
const (
	localApp      = "app"
	localVendored = "vendored"
	localLock     = "lock"
	folders       = "-folders" // of each: the same without files
)

// Secrets of every step.
const (
	secretCA       = "ca"
	secretRegistry = "registry"
	caFile         = "/run/slipway/ca.pem"
)

// topFolder is the first part of paas.InstanceHome.
const topFolder = "u01"

// commandMark begins the name of a vertex that runs something of the user's.
const commandMark = "$ "

var fixedTime = time.Unix(imageTime, 0).UTC()

var appOwner = &llb.ChownOpt{User: &llb.UserOpt{UID: base.AppUID}, Group: &llb.UserOpt{UID: base.AppUID}}

// named marks a vertex with the step it belongs to; progress.go reads it back.
func named(step, what string) llb.ConstraintsOpt { return llb.WithCustomName("[" + step + "] " + what) }

func image(step, ref string) llb.State {
	return llb.Image(ref, llb.ResolveModePreferLocal, named(step, ref))
}

// graph is the whole build.
func (r *Request) graph() llb.State {
	p := r.Plan
	parts := []llb.State{image(StepBase, r.Images.Base), image(StepRuntime, r.Images.Runtime)}
	for _, ref := range r.Images.Kept {
		parts = append(parts, image(StepRuntime, ref))
	}
	app := r.source(localApp, StepApp)
	if p.App.Vendored != "" {
		parts = append(parts, r.source(localVendored, StepDependencies))
	}
	if p.Dependencies != nil {
		parts = append(parts, r.install(p.Dependencies.Command))
	}
	parts = append(parts, app)
	if p.Build != nil {
		parts = append(parts, r.compile(app))
	}
	return llb.Merge(parts, named(StepExport, "merge"))
}

// source is an input from the archive; tree.go has put it into the app's folder,
// with times made from content. The folders are copied once more for their times:
// the sync changes them when it writes files into them and does not set them back.
func (r *Request) source(name, step string) llb.State {
	local := func(name string) llb.State {
		return llb.Local(name, llb.SharedKeyHint(r.Org+"/"+r.AppID+"/"+name), named(step, "read the archive"))
	}
	times := copyOf(&fixedTime)
	// In one operation, since each makes a layer.
	return llb.Scratch().File(copyHome(local(name), nil).Copy(local(name+folders), fromHome, "/", times), named(step, "copy files"))
}

// keep takes the app's folder out of a file system, owned by the app's user. The
// folder is copied with the one above it and not made anew, since only copied
// folders get a fixed time. A build step may have made nothing at all.
func keep(from llb.State, step string, at *time.Time) llb.State {
	return llb.Scratch().File(copyHome(from, at), named(step, "copy files"))
}

// fromHome matches the folder that holds the app's, or nothing.
const fromHome = "/" + topFolder + "*"

func copyHome(from llb.State, at *time.Time) *llb.FileAction {
	return llb.Copy(from, fromHome, "/", copyOf(at))
}

func copyOf(at *time.Time) *llb.CopyInfo {
	return &llb.CopyInfo{ChownOpt: appOwner, CreatedTime: at, AllowWildcard: true, AllowEmptyWildcard: true}
}

// workshop is the file system that steps run in.
func (r *Request) workshop() []llb.State {
	root := image(StepBase, r.Images.Base)
	if r.Images.Toolchain != "" {
		root = image(StepBase, r.Images.Toolchain)
	}
	parts := []llb.State{root, image(StepRuntime, r.Images.Runtime)}
	for _, ref := range r.Images.Tools {
		parts = append(parts, image(StepRuntime, ref))
	}
	if r.Images.Headers != "" {
		parts = append(parts, image(StepRuntime, r.Images.Headers))
	}
	return parts
}

// install runs the package manager over the lock set and keeps the app's folder.
func (r *Request) install(command string) llb.State {
	d := r.Plan.Dependencies
	lock := r.source(localLock, StepDependencies)
	root := llb.Merge(append(r.workshop(), lock), named(StepDependencies, "prepare"))
	done := r.run(root, StepDependencies, command, command, d.Env, d.Caches)
	return keep(done, StepDependencies, &fixedTime)
}

// compile runs the build step over source and dependencies and keeps what it
// made or changed.
func (r *Request) compile(app llb.State) llb.State {
	parts := r.workshop()
	var env []string
	var caches []plan.Cache
	if d := r.Plan.Dependencies; d != nil {
		command := d.BuildCommand
		if command == "" {
			command = d.Command
		}
		parts = append(parts, r.install(command))
		env, caches = d.Env, d.Caches
	}
	before := llb.Merge(append(parts, app), named(StepBuild, "prepare"))
	env = append(append([]string{}, env...), r.Plan.Build.Env...)
	command := r.Plan.Build.Command
	after := r.run(before, StepBuild, command, "{ "+command+"; } && "+settleTimes, env, caches)
	made := llb.Diff(before, after, named(StepBuild, "find what was made"))
	return keep(made, StepBuild, nil)
}

// run is one step: as the app's user, with the secrets mounted, limits set and
// nothing of the server's environment.
func (r *Request) run(root llb.State, step, title, command string, env []string, caches []plan.Cache) llb.State {
	opts := []llb.RunOption{
		llb.Args([]string{"/bin/sh", "-c", command}), named(step, commandMark+title),
		llb.Dir(paas.InstanceHome), llb.User(userName),
		llb.AddMount("/tmp", llb.Scratch(), llb.Tmpfs()),
		llb.AddSecret(caFile, llb.SecretID(secretCA), llb.SecretFileOpt(0, 0, 0o444)),
		llb.WithLinuxResources(r.resources()),
		llb.WithProxy(llb.ProxyEnv{HTTPProxy: r.Proxy.HTTP, HTTPSProxy: r.Proxy.HTTPS, NoProxy: r.Proxy.No}),
	}
	for _, name := range []string{"npm_config_registry", "YARN_NPM_REGISTRY_SERVER"} {
		// Not a plain variable: a mirror's address is no reason to install again.
		opts = append(opts, llb.AddSecret(name, llb.SecretID(secretRegistry), llb.SecretAsEnv(true), llb.SecretOptional))
	}
	if r.Images.Headers != "" {
		opts = append(opts, llb.AddEnv("npm_config_nodedir", "/usr/local")) // node-gyp would download them
	}
	for _, e := range append(stepEnv(), env...) {
		name, value, _ := strings.Cut(e, "=")
		opts = append(opts, llb.AddEnv(name, value))
	}
	for _, c := range caches {
		empty := llb.Scratch().File(llb.Mkdir("/cache", 0o755, llb.WithUIDGID(base.AppUID, base.AppUID)))
		sharing := llb.CacheMountShared
		if c.Locked {
			sharing = llb.CacheMountLocked
		}
		opts = append(opts, llb.AddMount(c.Path, empty, llb.SourcePath("/cache"), llb.AsPersistentCacheDir(r.cacheID(c.Name), sharing)))
	}
	return root.Run(opts...).Root()
}

// userName is numeric, so that no passwd file of a tenant's is asked.
const userName = "10001:10001"

func (r *Request) resources() llb.LinuxResources {
	const period = 100_000 // microseconds, the kernel's default
	return llb.LinuxResources{
		Memory: r.Limits.MemoryBytes, MemorySwap: r.Limits.MemoryBytes,
		CPUPeriod: period, CPUQuota: int64(r.Limits.CPUMillis) * period / 1000,
	}
}

// stepEnv is the environment of every step.
func stepEnv() []string {
	return []string{
		"PATH=" + paas.InstanceHome + "/node_modules/.bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/tmp", "LANG=C.UTF-8",
		"SOURCE_DATE_EPOCH=1735689600", "npm_config_fetch_timeout=60000", // milliseconds; npm's own is 5 minutes
		"NODE_EXTRA_CA_CERTS=" + caFile, "npm_config_cafile=" + caFile, "SSL_CERT_FILE=" + caFile,
		"GIT_SSL_CAINFO=" + caFile, "CURL_CA_BUNDLE=" + caFile, "YARN_HTTPS_CA_FILE_PATH=" + caFile,
	}
}

// settleTimes gives every file that the build wrote a time made from its content:
// the same output makes the same image, and a web server that tells versions of
// a file apart by size and time still sees a change.
const settleTimes = `node -e '
const fs=require("fs"),path=require("path"),crypto=require("crypto");
const fixed=1735689600;
(function walk(dir){
  for(const e of fs.readdirSync(dir,{withFileTypes:true})){
    const p=path.join(dir,e.name);
    if(e.isDirectory()){walk(p);continue}
    const st=fs.lstatSync(p);
    if(st.mtimeMs<1767225600000)continue;
    if(e.isSymbolicLink()){fs.lutimesSync(p,fixed,fixed);continue}
    const sum=crypto.createHash("sha256").update(fs.readFileSync(p)).digest().readUInt32BE(0);
    const t=978307200+sum%757382400;
    fs.utimesSync(p,t,t);
  }
  if(fs.statSync(dir).mtimeMs>=1767225600000)fs.utimesSync(dir,fixed,fixed);
})(".")'`
