package store

import (
	"context"

	"github.com/slipway-paas/slipway/internal/paas"
)

const (
	defaultList = 50
	maxList     = 1000
)

func listLimit(limit int) int {
	if limit <= 0 {
		return defaultList
	}
	return min(limit, maxList)
}

// Build implements paas.Store.
func (s *Store) Build(ctx context.Context, id int64) (out paas.Build, err error) {
	err = s.read(ctx, func(t *tx) error {
		row, err := find[buildRow](t, "id = ?", id)
		if err != nil {
			return err
		}
		if row == nil {
			return paas.Errorf(paas.CodeNotFound, "build %d does not exist", id)
		}
		app, err := t.appByID(row.AppID)
		if err != nil {
			return err
		}
		b, err := t.build(app, row)
		if err != nil {
			return err
		}
		out = *b
		return nil
	})
	return out, err
}

// Builds implements paas.Store. limit 0 means 50.
func (s *Store) Builds(ctx context.Context, app string, limit int) (out []paas.Build, err error) {
	err = s.read(ctx, func(t *tx) error {
		row, err := t.app(app)
		if err != nil {
			return err
		}
		var rows []buildRow
		if err := t.db.Where("app_id = ?", row.ID).Order("id DESC").Limit(listLimit(limit)).Find(&rows).Error; err != nil {
			return err
		}
		out, err = t.builds(row, rows)
		return err
	})
	return out, err
}

// LastBuild implements paas.Store. Result.UserEnv is empty: its values are kept
// in the configuration only.
func (s *Store) LastBuild(ctx context.Context, appID string) (out *paas.Build, err error) {
	err = s.read(ctx, func(t *tx) error {
		out = nil
		var rows []buildRow
		// A build whose releases were pruned has no image any more.
		err := t.db.Where("app_id = ? AND state = 'succeeded' AND id IN (SELECT build_id FROM releases WHERE app_id = ?)", appID, appID).
			Order("id DESC").Limit(1).Find(&rows).Error
		if err != nil || len(rows) == 0 {
			return err
		}
		app, err := t.appByID(appID)
		if err != nil {
			return err
		}
		out, err = t.build(app, &rows[0])
		return err
	})
	return out, err
}

// Releases implements paas.Store. limit 0 means 50.
func (s *Store) Releases(ctx context.Context, app string, limit int) (out []paas.Release, err error) {
	err = s.read(ctx, func(t *tx) error {
		row, err := t.app(app)
		if err != nil {
			return err
		}
		var rows []releaseRow
		err = t.db.Where("app_id = ?", row.ID).Order("number DESC").Limit(listLimit(limit)).Find(&rows).Error
		out = make([]paas.Release, len(rows))
		for i, r := range rows {
			out[i] = r.release()
		}
		return err
	})
	return out, err
}

// Release implements paas.Store.
func (s *Store) Release(ctx context.Context, app string, number int) (out paas.Release, err error) {
	err = s.read(ctx, func(t *tx) error {
		row, err := t.app(app)
		if err != nil {
			return err
		}
		r, err := t.release(row, number)
		if err != nil {
			return err
		}
		out = r.release()
		return nil
	})
	return out, err
}

func (t *tx) release(app *appRow, number int) (*releaseRow, error) {
	r, err := find[releaseRow](t, "app_id = ? AND number = ?", app.ID, number)
	if err == nil && r == nil {
		return nil, paas.Errorf(paas.CodeNotFound, "app %q has no release %d", app.Name, number).
			WithHint("`slipway releases` lists those that are kept")
	}
	return r, err
}

// releaseToDeploy finds a release by number; 0 is the live one.
func (t *tx) releaseToDeploy(app *appRow, number int) (*releaseRow, error) {
	if number != 0 {
		return t.release(app, number)
	}
	live, err := find[deploymentRow](t, "id = ?", app.LiveDeployment)
	if err != nil {
		return nil, err
	}
	if live == nil {
		return nil, paas.Errorf(paas.CodeConflict, "app %q has no live release yet", app.Name).WithHint("deploy it first")
	}
	return t.release(app, live.ReleaseNumber)
}

func (t *tx) build(app *appRow, row *buildRow) (*paas.Build, error) {
	out, err := t.builds(app, []buildRow{*row})
	if err != nil {
		return nil, err
	}
	return &out[0], nil
}

// builds adds to rows what other tables hold of them.
func (t *tx) builds(app *appRow, rows []buildRow) ([]paas.Build, error) {
	digests := make([]string, len(rows))
	for i, r := range rows {
		digests[i] = r.ArchiveDigest
	}
	var archives []archiveRow
	if err := t.db.Where("digest IN ?", digests).Find(&archives).Error; err != nil {
		return nil, err
	}
	byDigest := make(map[string]archiveRow, len(archives))
	for _, a := range archives {
		byDigest[a.Digest] = a
	}
	out := make([]paas.Build, len(rows))
	for i := range rows {
		r := &rows[i]
		manifest, err := t.openDocument(app, r, "manifest.json", r.Manifest)
		if err != nil {
			return nil, err
		}
		deployment, err := t.openDocument(app, r, "deployment.json", r.Deployment)
		if err != nil {
			return nil, err
		}
		a := byDigest[r.ArchiveDigest]
		out[i] = paas.Build{
			ID: r.ID, AppID: app.ID, AppName: app.Name, Org: app.Org,
			ArchiveDigest: a.Digest, ArchiveKey: a.ObjectKey, ArchiveSize: a.SizeBytes, Manifest: manifest, Deployment: deployment,
			State: r.State, Attempt: r.Attempt, Canceled: r.Canceled, Failure: r.Failure, Result: r.Result, LogKey: r.LogKey,
			CreatedAt: r.CreatedAt.time(), StartedAt: r.StartedAt.time(), FinishedAt: r.FinishedAt.time(),
		}
	}
	return out, nil
}
