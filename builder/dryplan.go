package builder

import (
	"context"
	"io/fs"

	"github.com/slipway-paas/slipway/buildpacks"
	"github.com/slipway-paas/slipway/buildpacks/plan"
	"github.com/slipway-paas/slipway/buildpacks/source"
)

// DryPlan returns the plan a build of the tree would have, for `slipway plan`. It
// builds nothing. manifest and deployment are the files given beside the tree, nil
// if none. Errors are those of buildpacks.Make.
func DryPlan(ctx context.Context, tree fs.FS, cat source.Catalog, manifest, deployment []byte) (*plan.Plan, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	res, err := buildpacks.Make(source.Input{FS: tree, Manifest: manifest, Deployment: deployment, Catalog: cat})
	if err != nil {
		return nil, err
	}
	return res.Plan, nil
}
