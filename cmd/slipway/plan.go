package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/slipway-paas/slipway/builder"
	"github.com/slipway-paas/slipway/builder/archive"
	"github.com/slipway-paas/slipway/builder/base"
	"github.com/slipway-paas/slipway/buildpacks/accfile"
	"github.com/slipway-paas/slipway/buildpacks/plan"
	"github.com/slipway-paas/slipway/buildpacks/source"
	"github.com/slipway-paas/slipway/internal/paas"
)

// newPlanCmd shows what a build would do; it needs no server.
func newPlanCmd() *cobra.Command {
	return &cobra.Command{
		Use: "plan [DIR|ARCHIVE]", Short: "Show what a build would do, and why, without doing it", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := "."
			if len(args) == 1 {
				name = args[0]
			}
			cat, err := catalog(cmd.Context())
			if err != nil {
				return err
			}
			tree, closeTree, err := openTree(cmd.Context(), name)
			if err != nil {
				return err
			}
			defer closeTree()
			p, err := builder.DryPlan(cmd.Context(), tree, cat, nil, nil)
			if err != nil {
				return planError(newOutput(cmd), err)
			}
			return newOutput(cmd).result(p, func(w io.Writer) { printPlan(w, p) })
		},
	}
}

// planError is what a deployment would fail with, as `slipway deploy` says it.
func planError(o *output, err error) error {
	var failed *source.FailureError
	if !errors.As(err, &failed) {
		return err
	}
	f := failed.Failure
	o.lastOutput("found:", f.Output)
	e := paas.Errorf(paas.CodeInvalid, "%s", f.Message)
	if f.Hint != "" {
		return e.WithHint("%s", f.Hint)
	}
	return e
}

func printPlan(w io.Writer, p *plan.Plan) {
	for _, d := range p.Decisions {
		fmt.Fprintf(w, "- %s: %s (%s)\n", d.What, d.Choice, d.Why)
	}
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		b = []byte(err.Error()) // plain data; it always encodes
	}
	fmt.Fprintf(w, "\n%s\n", b)
}

// catalog is the list of versions on offer, kept in the user's cache folder.
func catalog(ctx context.Context) (source.Catalog, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return source.Catalog{}, err
	}
	bases, err := base.New(base.Options{Dir: filepath.Join(dir, "slipway"), Registry: base.HostRegistry(ctx), CAFile: os.Getenv("SSL_CERT_FILE")})
	if err != nil {
		return source.Catalog{}, err
	}
	return bases.Catalog(ctx)
}

func openTree(ctx context.Context, name string) (fs.FS, func(), error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, paas.Errorf(paas.CodeInvalid, "cannot read %s: %v", name, err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	if info.IsDir() {
		f.Close()
		return os.DirFS(name), func() {}, nil
	}
	a, err := archive.Open(ctx, f, info.Size(), archive.Limits{})
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return a.FS(), func() { a.Close(); f.Close() }, nil
}

// checkManifest refuses at the door the files given beside an archive.
func checkManifest(manifest, deployment []byte) error {
	if manifest != nil {
		if _, err := accfile.ParseManifest(manifest); err != nil {
			return err
		}
	}
	if deployment != nil {
		if _, err := accfile.ParseDeployment(deployment); err != nil {
			return err
		}
	}
	return nil
}
