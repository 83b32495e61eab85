// Package buildpacks turns a source tree into a plan.Plan: it reads a few small
// files, decides and gives a reason for each decision. It executes nothing and
// reaches nothing but the tree.
//
// It must not import builder, runtime, router, api or any adapter. Start with
// Make; the ordered list is in list.go, what languages share in buildpacks/source.
package buildpacks

import (
	"fmt"
	"io/fs"
	"strings"

	"github.com/slipway-paas/slipway/buildpacks/plan"
	"github.com/slipway-paas/slipway/buildpacks/source"
)

// maxTreeLines is how much of the tree an error shows.
const maxTreeLines = 20

// Buildpack knows one language.
type Buildpack interface {
	Name() string
	// Detect reports whether the tree is its language, and why.
	Detect(src *source.Source) (why string, ok bool)
	// Plan decides. A *source.FailureError is the user's to mend; other errors are ours.
	Plan(src *source.Source) (*plan.Plan, error)
	// LookedFor lists what Detect looks for, for the message when nothing fits.
	LookedFor() string
}

// Result is a plan with what must not be in it.
type Result struct {
	Plan *plan.Plan
	// UserEnv is deployment.json's environment: secrets.
	UserEnv map[string]string
}

// Make reads the tree and returns the plan of the first buildpack that fits.
// Errors: *source.FailureError, *paas.Error with CodeInvalid for a broken
// manifest.json or deployment.json; anything else comes from the tree's reader.
func Make(in source.Input) (*Result, error) {
	src, err := source.Read(in)
	if err != nil {
		return nil, err
	}
	for _, bp := range all() {
		why, ok := bp.Detect(src)
		if !ok {
			continue
		}
		p, err := bp.Plan(src)
		if err != nil {
			return nil, err
		}
		p.Format, p.Buildpack = plan.Format, bp.Name()
		p.Decisions = append([]plan.Decision{{What: "language", Choice: bp.Name(), Why: why}}, p.Decisions...)
		src.Apply(p)
		return &Result{Plan: p, UserEnv: src.UserEnv()}, nil
	}
	return nil, unknownLanguage(src)
}

func unknownLanguage(src *source.Source) error {
	var looked []string
	for _, bp := range all() {
		looked = append(looked, bp.Name()+": "+bp.LookedFor())
	}
	lines, top := listTree(src.FS)
	hint := "looked for " + strings.Join(looked, "; ")
	if top != "" {
		hint = fmt.Sprintf("everything is inside the folder %q; archive the content of that folder, not the folder itself", top)
	}
	f := source.Failf(source.FailUnknown, hint, "no language was recognised in the archive")
	f.Failure.Output = lines
	return f
}

// listTree shows the first entries of the root, and the folder that holds all.
func listTree(fsys fs.FS) (lines []string, top string) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return []string{err.Error()}, ""
	}
	for _, e := range entries {
		if len(lines) == maxTreeLines {
			return append(lines, fmt.Sprintf("… and %d more", len(entries)-maxTreeLines)), ""
		}
		name := e.Name()
		if e.IsDir() {
			name += "/"
		}
		lines = append(lines, name)
	}
	if len(entries) == 1 && entries[0].IsDir() {
		top = entries[0].Name()
	}
	return lines, top
}
