// Package plan is what a buildpack decides, as pure data: which runtime, how
// dependencies are installed, what is built, how the app starts, and the reason
// for each choice. A plan is printed by `slipway plan`, stored with the build and
// compared in golden tests; builder/llb turns it into work.
//
// It imports internal/paas and the standard library only. Start with Plan.
package plan

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// Format is the version of the encoding; it is part of every key, so that a new
// meaning of an old field rebuilds.
const Format = 1

// Kind says what has to happen before an archive can run.
type Kind string

const (
	KindReady  Kind = "ready"  // everything is in the archive; nothing is installed, no network
	KindSource Kind = "source" // dependencies are installed, perhaps something is compiled
)

// Plan is everything the builder has to know. It carries no secrets: of the
// user's environment it has the names only.
type Plan struct {
	Format    int          `json:"format"`
	Buildpack string       `json:"buildpack"` // e.g. "node"
	Kind      Kind         `json:"kind"`
	Why       string       `json:"why"` // why ready or source
	Type      paas.AppType `json:"type"`

	Runtime Package `json:"runtime"` // e.g. node 24.21.0
	// Tools are package managers.
	Tools []Tool `json:"tools,omitempty"`
	// Toolchain asks for compilers, python3 and git in the steps.
	Toolchain bool `json:"toolchain"`

	Dependencies *Dependencies `json:"dependencies,omitempty"` // nil: nothing is installed
	Build        *Build        `json:"build,omitempty"`        // nil: nothing is compiled
	App          App           `json:"app"`

	Start   []string          `json:"start"`             // argv, run in paas.InstanceHome
	Env     []string          `json:"env,omitempty"`     // NAME=value, in order, before the user's
	EnvVars []string          `json:"userEnv,omitempty"` // names only
	Health  paas.HealthCheck  `json:"health"`
	Grace   time.Duration     `json:"grace"`            // nanoseconds from SIGTERM to SIGKILL
	Memory  int64             `json:"memory,omitempty"` // bytes; 0 = not said
	Count   int               `json:"instances,omitempty"`
	Release map[string]string `json:"release,omitempty"` // build, commit, version of manifest.json

	Decisions []Decision `json:"decisions"`
	Warnings  []string   `json:"warnings,omitempty"`
}

// Package is an exact version of something.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Tool is a package manager from the npm registry.
type Tool struct {
	Package
	// AtRuntime keeps it in the image: npm always, others when the start command
	// uses them.
	AtRuntime bool `json:"atRuntime,omitempty"`
}

// Dependencies is the step that is keyed by the lock set and nothing else.
type Dependencies struct {
	Manager string `json:"manager"` // "npm", "pnpm", "yarn"
	// Files is the lock set: all that the step may read, sorted. With Whole the step
	// reads the whole source instead, since install scripts may read any file.
	Files []string `json:"files,omitempty"`
	Whole bool     `json:"whole,omitempty"`
	// Command installs what runs; BuildCommand what is needed to build, "" = the same.
	Command      string   `json:"command"`
	BuildCommand string   `json:"buildCommand,omitempty"`
	Caches       []Cache  `json:"caches,omitempty"`
	Env          []string `json:"env,omitempty"`
}

// Cache is a folder that outlives builds; it is never part of a result.
type Cache struct {
	Name   string `json:"name"` // salted with org and app by the builder
	Path   string `json:"path"`
	Locked bool   `json:"locked,omitempty"` // one user at a time
}

// Build is the compile step: it sees the source and the installed dependencies.
type Build struct {
	Command string   `json:"command"`
	Env     []string `json:"env,omitempty"`
}

// App is what of the archive goes into the image.
type App struct {
	// Exclude lists patterns in the manner of .dockerignore.
	Exclude []string `json:"exclude,omitempty"`
	// Vendored is a folder with many files that seldom change; it is an input of its
	// own, "" = none.
	Vendored string `json:"vendored,omitempty"`
}

// Decision is one choice with its reason, as shown in the build log.
type Decision struct {
	What   string `json:"what"`   // "node", "start", …
	Choice string `json:"choice"` // "24.21.0"
	Why    string `json:"why"`    // `engines.node ">=20" in package.json`
}

// Decide records a choice.
func (p *Plan) Decide(what, choice, why string) {
	p.Decisions = append(p.Decisions, Decision{what, choice, why})
}

// Encode is the one JSON text of p: indented, stable, ending in a newline.
func (p *Plan) Encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // commands are full of &&
	enc.SetIndent("", "  ")
	if err := enc.Encode(p); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Decode reads what Encode wrote.
func Decode(b []byte) (*Plan, error) {
	var p Plan
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, err
	}
	return &p, nil
}

// Key identifies what the plan does: equal keys with equal content make the same
// image and the same release. Reasons and warnings do not count.
func (p *Plan) Key() string {
	c := *p
	c.Why, c.Decisions, c.Warnings = "", nil, nil
	return KeyOf("plan", &c)
}

// KeyOf hashes parts with their JSON encoding to "sha256:<hex>". It panics on a
// value that JSON cannot carry, which is a mistake in the calling code.
func KeyOf(parts ...any) string {
	h := sha256.New()
	enc := json.NewEncoder(h)
	for _, p := range parts {
		if err := enc.Encode(p); err != nil {
			panic(err)
		}
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}
