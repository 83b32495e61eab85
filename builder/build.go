package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-paas/slipway/builder/archive"
	"github.com/slipway-paas/slipway/builder/base"
	"github.com/slipway-paas/slipway/builder/llb"
	"github.com/slipway-paas/slipway/buildpacks"
	"github.com/slipway-paas/slipway/buildpacks/plan"
	"github.com/slipway-paas/slipway/buildpacks/source"
	"github.com/slipway-paas/slipway/internal/paas"
)

// Steps of the log that are no steps of the ledger.
const (
	logSlipway = "slipway"
	logDetect  = "detect"
	logBase    = "base"
)

// job is one build on its way.
type job struct {
	w       *Worker
	b       *paas.Build
	log     *logWriter
	arch    *archive.Archive
	plan    *plan.Plan
	userEnv map[string]string
	images  llb.Images
	keys    *keys
	last    *paas.Build // newest succeeded build of the app, or nil
}

// make is everything between claim and record. ctx ends at cancel and deadline.
func (j *job) make(ctx context.Context) (*paas.BuildResult, error) {
	r, err := j.w.o.Blobs.OpenArchive(ctx, j.b.ArchiveKey)
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	defer r.Close()
	lim := j.w.o.Archive
	j.arch, err = archive.Open(ctx, r, r.Size(), lim)
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	defer j.arch.Close()
	if err := j.detect(ctx); err != nil {
		return nil, err
	}
	j.last, err = j.w.o.Store.LastBuild(ctx, j.b.AppID)
	if err != nil {
		return nil, fmt.Errorf("look at the last build: %w", err)
	}
	if j.neededToolchain() {
		j.withToolchain("the last build needed it")
	}
	if err := j.prepare(ctx); err != nil {
		return nil, err
	}
	if res, err := j.reuse(ctx); err != nil || res != nil {
		return res, err
	}
	res, err := j.solve(ctx)
	var step *llb.StepError
	if errors.As(err, &step) && step.NoCompiler && !j.plan.Toolchain {
		// Lock files do not tell all packages that compile on install.
		j.withToolchain("the step looked for a compiler")
		if err := j.prepare(ctx); err != nil {
			return nil, err
		}
		return j.solve(ctx)
	}
	return res, err
}

// neededToolchain reports whether the last build ran with compilers although its
// lock file had not asked for them.
func (j *job) neededToolchain() bool {
	if j.plan.Toolchain || j.plan.Dependencies == nil || j.last == nil || j.last.Result == nil {
		return false
	}
	before, err := plan.Decode(j.last.Result.Plan)
	return err == nil && before.Toolchain
}

func (j *job) withToolchain(why string) {
	j.plan.Toolchain = true
	j.plan.Decide("toolchain", "yes", why)
	j.log.say(logDetect, "toolchain: yes ("+why+")")
}

// detect makes the plan and tells its reasons.
func (j *job) detect(ctx context.Context) error {
	cat, err := j.w.o.Bases.Catalog(ctx)
	if err != nil {
		return fmt.Errorf("read the catalogue of versions: %w", err)
	}
	res, err := buildpacks.Make(source.Input{FS: j.arch.FS(), Manifest: j.b.Manifest, Deployment: j.b.Deployment, Catalog: cat})
	if err != nil {
		return err
	}
	j.plan, j.userEnv = res.Plan, res.UserEnv
	for _, d := range j.plan.Decisions {
		j.log.say(logDetect, fmt.Sprintf("%s: %s (%s)", d.What, d.Choice, d.Why))
	}
	for _, warning := range j.plan.Warnings {
		j.log.say(logDetect, "warning: "+warning)
	}
	if dropped := j.arch.Dropped(); len(dropped) > 0 {
		j.log.say(logDetect, fmt.Sprintf("left out of the archive: %d files that only macOS uses", len(dropped)))
	}
	return nil
}

// prepare has the base images made that are missing, side by side.
func (j *job) prepare(ctx context.Context) error {
	say := func(text string) { j.log.say(logBase, text) }
	bases, p := j.w.o.Bases, j.plan
	g, ctx := errgroup.WithContext(ctx)
	get := func(into *base.Image, f func(context.Context, func(string)) (base.Image, error)) {
		g.Go(func() (err error) { *into, err = f(ctx, say); return err })
	}
	ofPackage := func(f func(context.Context, plan.Package, func(string)) (base.Image, error), pkg plan.Package) func(context.Context, func(string)) (base.Image, error) {
		return func(ctx context.Context, say func(string)) (base.Image, error) { return f(ctx, pkg, say) }
	}
	var root, runtime, toolchain, headers base.Image
	tools := make([]base.Image, len(p.Tools))
	get(&root, bases.Base)
	get(&runtime, ofPackage(bases.Runtime, p.Runtime))
	runs := p.Dependencies != nil || p.Build != nil
	for i, t := range p.Tools {
		if t.AtRuntime || runs {
			get(&tools[i], ofPackage(bases.Tool, t.Package))
		}
	}
	if p.Toolchain && runs {
		get(&toolchain, bases.Toolchain)
		get(&headers, ofPackage(bases.Headers, p.Runtime))
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("prepare base images: %w", err)
	}
	j.images = llb.Images{Base: root.Ref, Runtime: runtime.Ref, Toolchain: toolchain.Ref, Headers: headers.Ref}
	for i, t := range p.Tools {
		if tools[i].Ref != "" {
			j.images.Tools = append(j.images.Tools, tools[i].Ref)
		}
		if t.AtRuntime {
			j.images.Kept = append(j.images.Kept, tools[i].Ref)
		}
	}
	j.keys = j.makeKeys()
	return nil
}

// reuse takes the last build's image when it would be made again.
func (j *job) reuse(ctx context.Context) (*paas.BuildResult, error) {
	if j.last == nil || j.last.Result == nil || ledgerKey(j.last.Result.Ledger, llb.StepExport) != j.keys.export.Key {
		return nil, nil
	}
	ref := paas.ImageRef(j.b.AppID, j.b.ID)
	found, err := j.w.o.Bases.Tag(ctx, j.last.Result.ImageRef, j.last.Result.ImageDigest, ref)
	if err != nil {
		return nil, fmt.Errorf("reuse image: %w", err)
	}
	if !found {
		j.log.say(logSlipway, fmt.Sprintf("the same was built by build %d, but its image is gone", j.last.ID))
		return nil, nil
	}
	j.log.say(logSlipway, fmt.Sprintf("archive and plan are those of build %d: its image is used again", j.last.ID))
	ledger := j.keys.ledger()
	for i := range ledger {
		ledger[i].Hit, ledger[i].Changed = true, nil
	}
	res, err := j.result(ref, j.last.Result.ImageDigest, ledger)
	if err != nil {
		return nil, err
	}
	res.Reused = true
	return res, nil
}

func (j *job) solve(ctx context.Context) (*paas.BuildResult, error) {
	ca, err := os.ReadFile(j.w.o.CAFile)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("read CA bundle: %w", err)
	}
	ref := paas.ImageRef(j.b.AppID, j.b.ID)
	started := time.Now()
	out, err := j.w.o.Solver.Build(ctx, llb.Request{
		Org: j.b.Org, AppID: j.b.AppID, Ref: ref, Plan: j.plan, Tree: j.arch, Images: j.images,
		Registry: j.registry(), CA: ca, Proxy: j.w.o.Proxy, Limits: j.w.o.Limits, Say: j.log.say,
	})
	if err != nil {
		return nil, err
	}
	ledger := j.keys.ledger()
	j.compare(ledger, out.Steps)
	for _, l := range ledger {
		j.log.say(logSlipway, describe(l))
	}
	j.log.say(logSlipway, fmt.Sprintf("image %s is ready after %s", out.Digest[:min(19, len(out.Digest))], time.Since(started).Round(10*time.Millisecond)))
	return j.result(ref, out.Digest, ledger)
}

// registry leaves the choice to the archive's own .npmrc when it makes one.
func (j *job) registry() string {
	text, err := readSmall(j.arch, ".npmrc")
	if err == nil {
		for _, l := range strings.Split(text, "\n") {
			if name, _, ok := strings.Cut(l, "="); ok && strings.TrimSpace(name) == "registry" {
				return ""
			}
		}
	}
	return j.w.o.Registry
}

func (j *job) result(ref, digest string, ledger []paas.LedgerEntry) (*paas.BuildResult, error) {
	text, err := j.plan.Encode()
	if err != nil {
		return nil, err
	}
	p := j.plan
	return &paas.BuildResult{
		ImageRef: ref, ImageDigest: digest, Plan: text, Ledger: ledger,
		Type: p.Type, Command: p.Start, Env: p.Env, MemoryBytes: p.Memory, Instances: p.Count,
		Health: p.Health, Grace: p.Grace, UserEnv: j.userEnv,
	}, nil
}
