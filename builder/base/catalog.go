package base

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-paas/slipway/buildpacks/plan"
	"github.com/slipway-paas/slipway/buildpacks/source"
)

// catalogAge is how old the stored catalogue gets before it is read again in the
// background. Builds between two readings see the same versions.
const catalogAge = 24 * time.Hour

// Retry and delay of the background work.
const (
	refreshRetry   = 10 * time.Minute
	toolchainDelay = 2 * time.Minute // after the first deploys had the machine for themselves
)

// toolPackages are the package managers offered.
var toolPackages = []string{"npm", "pnpm", "yarn", "@yarnpkg/cli-dist"}

func (b *Bases) catalogFile() string { return filepath.Join(b.o.Dir, "catalog.json") }

// Catalog returns what there is. It asks the registry only if nothing is stored.
func (b *Bases) Catalog(ctx context.Context) (source.Catalog, error) {
	c, err := LoadCatalog(b.o.Dir)
	if !errors.Is(err, os.ErrNotExist) {
		return c, err
	}
	unlock, err := b.lock(ctx, "catalog")
	if err != nil {
		return c, err
	}
	defer unlock()
	if c, err := LoadCatalog(b.o.Dir); err == nil {
		return c, nil
	}
	return b.refresh(ctx)
}

// LoadCatalog reads the catalogue stored in a folder; os.ErrNotExist if there is none.
func LoadCatalog(dir string) (source.Catalog, error) {
	var c source.Catalog
	text, err := os.ReadFile(filepath.Join(dir, "catalog.json"))
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("catalog.json: %w", err)
	}
	return c, nil
}

// refresh asks the registry and stores the answer.
func (b *Bases) refresh(ctx context.Context) (source.Catalog, error) {
	var c source.Catalog
	nodes, err := b.versions(ctx, nodePackage)
	if err != nil {
		return c, err
	}
	for _, v := range nodes {
		c.Node = append(c.Node, v.Version)
	}
	c.NodeLTS = supported(c.Node, b.o.Now())
	c.Tools = map[string][]source.ToolVersion{}
	for _, name := range toolPackages {
		if c.Tools[name], err = b.versions(ctx, name); err != nil {
			return c, err
		}
	}
	text, err := json.Marshal(c)
	if err != nil {
		return c, err
	}
	return c, writeFile(b.catalogFile(), text)
}

// versions lists the released versions of a package, oldest first.
func (b *Bases) versions(ctx context.Context, name string) ([]source.ToolVersion, error) {
	body, err := b.get(ctx, "application/vnd.npm.install-v1+json", name)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var doc struct {
		Versions map[string]struct{ Engines json.RawMessage }
	}
	if err := json.NewDecoder(body).Decode(&doc); err != nil {
		return nil, fmt.Errorf("versions of %s: %w", name, err)
	}
	var all []string
	for v := range doc.Versions {
		all = append(all, v)
	}
	var out []source.ToolVersion
	for _, v := range source.SortVersions(all) {
		var engines struct{ Node string }
		_ = json.Unmarshal(doc.Versions[v].Engines, &engines) // very old packages have a list here
		out = append(out, source.ToolVersion{Version: v, Node: engines.Node})
	}
	return out, nil
}

// supported lists the majors with long-term support at a time: even ones, from
// late October of the year they came out (2013 + major/2) until the end of April
// three years on.
func supported(versions []string, now time.Time) []int {
	var out []int
	for _, v := range versions {
		text, _, _ := strings.Cut(v, ".")
		major, err := strconv.Atoi(text)
		if err != nil || major%2 != 0 || len(out) > 0 && out[len(out)-1] == major {
			continue
		}
		year := 2013 + major/2
		begin, end := time.Date(year, 10, 28, 0, 0, 0, 0, time.UTC), time.Date(year+3, 5, 1, 0, 0, 0, 0, time.UTC)
		if !now.Before(begin) && now.Before(end) {
			out = append(out, major)
		}
	}
	return out
}

// Run prepares, in the background, what the first build will need, and keeps the
// catalogue young. It blocks until ctx ends.
func (b *Bases) Run(ctx context.Context) error {
	prepared := false
	wait := time.Duration(0)
	started := b.o.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = refreshRetry
		if err := b.prepare(ctx, !prepared && b.o.Now().Sub(started) < toolchainDelay); err != nil {
			if ctx.Err() == nil {
				b.o.Log.Warn("preparing base images", "err", err, "retry", wait)
			}
			continue
		}
		if !prepared {
			prepared, wait = true, toolchainDelay
		}
	}
}

// prepare makes what is missing of the usual images.
func (b *Bases) prepare(ctx context.Context, first bool) error {
	silent := func(string) {}
	if info, err := os.Stat(b.catalogFile()); err == nil && b.o.Now().Sub(info.ModTime()) > catalogAge {
		if _, err := b.refresh(ctx); err != nil {
			return err
		}
	}
	c, err := b.Catalog(ctx)
	if err != nil {
		return err
	}
	if _, err := b.Base(ctx, silent); err != nil {
		return err
	}
	node := plan.Package{Name: "node", Version: c.NodeVersion("*")}
	if _, err := b.Runtime(ctx, node, silent); err != nil {
		return err
	}
	if first {
		return nil
	}
	_, err = b.Toolchain(ctx, silent)
	return err
}
