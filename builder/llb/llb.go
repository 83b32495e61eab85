// Package llb turns a plan into BuildKit's graph, solves it and leaves the image
// in the containerd that BuildKit works with, unpacked and ready to run. It is the
// only importer of BuildKit.
//
// Four inputs are merged, each with its own key: base, runtime, dependencies
// (read from the lock set and nothing else) and app. Start with Builder.Build;
// graph.go makes the graph, tree.go shows the archive to BuildKit's file sync,
// progress.go reads the status stream, failure.go tells the user's mistakes from
// our trouble.
package llb

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil"

	"github.com/slipway-paas/slipway/builder/archive"
	"github.com/slipway-paas/slipway/builder/base"
	"github.com/slipway-paas/slipway/buildpacks/plan"
	"github.com/slipway-paas/slipway/internal/paas"
)

// imageTime is the creation time of every image (2025-01-01), so that the same
// input makes the same digest.
const imageTime = 1735689600

// Tree is the source; *archive.Archive implements it.
type Tree interface {
	Entries() []archive.Entry
	FS() fs.FS
}

// Images are the names of the base images that a build stands on.
type Images struct {
	Base      string
	Runtime   string
	Tools     []string // all package managers, for steps
	Kept      []string // those that stay in the image
	Toolchain string   // instead of Base in steps; "" = Base
	Headers   string   // with Toolchain
}

// Limits bound each step.
type Limits struct {
	MemoryBytes int64
	CPUMillis   int
}

// Request is one build.
type Request struct {
	Org      string // cache mounts are not shared between orgs, nor between apps
	AppID    string
	Ref      string // name of the image
	Plan     *plan.Plan
	Tree     Tree
	Images   Images
	Registry string // npm registry for the steps; "" = the tools' own default
	CA       []byte // PEM bundle for the steps; never part of a layer or key
	Proxy    Proxy
	Limits   Limits
	Say      func(step, text string) // called from one goroutine
}

// Proxy is handed to steps outside the cache key.
type Proxy struct{ HTTP, HTTPS, No string }

// Step is what became of one part of the build.
type Step struct {
	Name     string
	Hit      bool // no command of it ran
	Duration time.Duration
}

// Result is a finished build.
type Result struct {
	Digest string // "sha256:<hex>" of the manifest
	Steps  []Step // in order: base, runtime, dependencies, build, app, export
}

// Builder talks to one buildkitd. It is safe for concurrent use.
type Builder struct{ address string }

// New returns a Builder for the daemon at address ("unix:///…").
func New(address string) *Builder { return &Builder{address} }

// Build solves the request. Errors: *StepError when a step of the user's failed,
// *paas.Error for a broken archive, the context's cause, *paas.Error with
// CodeUnavailable when the daemon does not answer; anything else is ours.
func (b *Builder) Build(ctx context.Context, r Request) (*Result, error) {
	c, err := client.New(ctx, b.address)
	if err != nil {
		return nil, unavailable(err)
	}
	defer c.Close()
	trees := r.trees()
	state := r.graph()
	def, err := state.Marshal(ctx)
	if err != nil {
		return nil, fmt.Errorf("make build graph: %w", err)
	}
	opt, err := r.options(trees)
	if err != nil {
		return nil, err
	}
	status := make(chan *client.SolveStatus)
	progress := newProgress(r.Say)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for s := range status { // to the end: a full channel blocks the solve
			progress.add(s)
		}
	}()
	resp, err := c.Solve(ctx, def, opt, status)
	<-drained
	for _, t := range trees {
		if broken := t.failure(); broken != nil {
			return nil, fmt.Errorf("read archive: %w", broken)
		}
	}
	if err != nil {
		return nil, progress.explain(ctx, err, r.Limits)
	}
	digest := resp.ExporterResponse["containerimage.digest"]
	if digest == "" {
		return nil, fmt.Errorf("BuildKit exported %s without a digest", r.Ref)
	}
	return &Result{Digest: digest, Steps: progress.steps(r.Plan)}, nil
}

// Ping reports whether the daemon answers and has a worker.
func (b *Builder) Ping(ctx context.Context) error {
	c, err := client.New(ctx, b.address)
	if err != nil {
		return unavailable(err)
	}
	defer c.Close()
	workers, err := c.ListWorkers(ctx)
	if err != nil {
		return unavailable(err)
	}
	if len(workers) == 0 {
		return paas.Errorf(paas.CodeUnavailable, "buildkitd has no worker")
	}
	return nil
}

func unavailable(err error) error {
	return paas.Errorf(paas.CodeUnavailable, "buildkitd does not answer").WithCause(err)
}

func (r *Request) options(trees map[string]*tree) (client.SolveOpt, error) {
	config, err := json.Marshal(r.imageConfig())
	if err != nil {
		return client.SolveOpt{}, err
	}
	mounts := map[string]fsutil.FS{}
	for name, t := range trees {
		mounts[name] = t
	}
	secrets := map[string][]byte{secretCA: r.CA}
	if r.Registry != "" {
		secrets[secretRegistry] = []byte(r.Registry)
	}
	return client.SolveOpt{
		LocalMounts: mounts,
		SharedKey:   r.Org + "/" + r.AppID,
		Session:     []session.Attachable{secretsprovider.FromMap(secrets)},
		Exports: []client.ExportEntry{{Type: client.ExporterImage, Attrs: map[string]string{
			"name": r.Ref, "store": "true", "unpack": "true",
			// Compressing costs more than the disk it saves while the image stays here.
			"compression": "uncompressed", "oci-mediatypes": "true",
			"source-date-epoch":     fmt.Sprint(imageTime),
			"containerimage.config": string(config),
		}}},
		SourcePolicy: policy,
	}, nil
}

// policy lets a build read our own images and the archive, and nothing else: the
// last rule that matches decides.
var policy = &spb.Policy{Version: 1, Rules: []*spb.Rule{
	{Action: spb.PolicyAction_DENY, Selector: &spb.Selector{Identifier: "*", MatchType: spb.MatchType_WILDCARD}},
	{Action: spb.PolicyAction_ALLOW, Selector: &spb.Selector{Identifier: "local://*", MatchType: spb.MatchType_WILDCARD}},
	{Action: spb.PolicyAction_ALLOW, Selector: &spb.Selector{Identifier: "docker-image://" + base.RefPrefix + "*", MatchType: spb.MatchType_WILDCARD}},
}}

// imageConfig is only for people who look at the image: the runtime takes
// command and environment from the release.
func (r *Request) imageConfig() ocispec.Image {
	created := time.Unix(imageTime, 0).UTC()
	user := fmt.Sprintf("%d:%d", base.AppUID, base.AppUID)
	return ocispec.Image{
		Created:  &created,
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		Config:   ocispec.ImageConfig{User: user, WorkingDir: paas.InstanceHome, Env: r.Plan.Env, Cmd: r.Plan.Start},
		RootFS:   ocispec.RootFS{Type: "layers"},
	}
}

// cacheID names a cache mount: salted, so that no app reads or poisons another's.
func (r *Request) cacheID(name string) string {
	return strings.TrimPrefix(plan.KeyOf("cache", r.Org, r.AppID, name), "sha256:")[:32]
}
