package buildpacks

import "github.com/slipway-paas/slipway/buildpacks/node"

// all lists the buildpacks in the order in which they are asked.
func all() []Buildpack {
	return []Buildpack{node.Buildpack{}}
}
