package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"

	"github.com/slipway-paas/slipway/internal/paas"
)

// FinishBuild implements paas.Store. When what was built cannot become a release
// of this app (another type, figures out of range), the build and its deployment
// are recorded as failed and the error is CodeInvalid; when the build was to be
// canceled, it is, and the error is CodeConflict. Both are final. The same call
// again returns the same release.
func (s *Store) FinishBuild(ctx context.Context, id int64, attempt int, r paas.BuildResult, logKey string) (out paas.Release, err error) {
	r.Type = cmp.Or(r.Type, paas.TypeWeb)
	var refused error
	err = s.write(ctx, func(t *tx) error {
		out, refused = paas.Release{}, nil
		first, err := t.finishedBefore(id, attempt)
		if err != nil {
			return err
		}
		if first != nil {
			out, t.quiet = first.release(), true
			return nil
		}
		b, err := t.heldBuild(id, attempt)
		if err != nil {
			return err
		}
		app, err := t.appByID(b.AppID)
		if err != nil {
			return err
		}
		if b.Canceled {
			refused = paas.Errorf(paas.CodeConflict, "build %d was canceled", id)
			return t.endBuild(app, b, paas.BuildCanceled, nil, logKey, "")
		}
		f, err := t.unfit(app, r)
		if err != nil {
			return err
		}
		if f != nil {
			refused = paas.Errorf(paas.CodeInvalid, "%s", f.Message).WithHint("%s", f.Hint)
			return t.endBuild(app, b, paas.BuildFailed, f, logKey, "")
		}
		row, err := t.finishBuild(app, b, r, logKey)
		if err != nil {
			return err
		}
		out = row.release()
		return nil
	})
	if err == nil {
		err = refused
	}
	return out, err
}

// finishedBefore finds the release that this very attempt made.
func (t *tx) finishedBefore(id int64, attempt int) (*releaseRow, error) {
	b, err := find[buildRow](t, "id = ? AND attempt = ? AND state = 'succeeded'", id, attempt)
	if err != nil || b == nil {
		return nil, err
	}
	return find[releaseRow](t, "build_id = ? AND reason = ?", id, paas.KindDeploy)
}

// unfit says why a result cannot become a release of app; nil when it can.
func (t *tx) unfit(app *appRow, r paas.BuildResult) (*paas.Failure, error) {
	if r.Type != paas.TypeWeb && r.Type != paas.TypeWorker {
		return &paas.Failure{Code: "bad_type", Message: fmt.Sprintf("app type %q is not known", r.Type), Hint: "use web or worker"}, nil
	}
	if app.LastRelease > 0 && r.Type != app.Type {
		return &paas.Failure{
			Code:    "type_changed",
			Message: fmt.Sprintf("app %q is of type %s and its type cannot change to %s", app.Name, app.Type, r.Type),
			Hint:    "set the type in manifest.json back, or deploy under another app name",
		}, nil
	}
	env, err := t.configMap(app)
	if err != nil {
		return nil, err
	}
	maps.Copy(env, r.UserEnv)
	err = checkSize(r.Instances, r.MemoryBytes, 0)
	if err == nil {
		err = checkEnv(env)
	}
	if err != nil {
		return &paas.Failure{Code: "bad_deployment_json", Message: "deployment.json: " + err.Error(), Hint: "correct deployment.json and deploy again"}, nil
	}
	return nil, nil
}

// finishBuild records success. A deployment that a newer one overtook gets its
// release too, so that it can be rolled to, but changes nothing of the app.
func (t *tx) finishBuild(app *appRow, b *buildRow, r paas.BuildResult, logKey string) (*releaseRow, error) {
	d, err := find[deploymentRow](t, "build_id = ?", b.ID)
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, fmt.Errorf("build %d has no deployment", b.ID)
	}
	if d.State == paas.DeploymentPending {
		overtaken, err := t.overtaken(d)
		if err != nil {
			return nil, err
		}
		if overtaken {
			d.State = paas.DeploymentSuperseded
		}
	}
	if err := t.recordSuccess(app, b, d, r, logKey); err != nil {
		return nil, err
	}
	if d.State == paas.DeploymentPending {
		if err := t.adopt(app, r, d.ByUser); err != nil {
			return nil, err
		}
	}
	row := newRelease(app, b, r, d.ByUser)
	if err := t.createRelease(app, row, d.ByUser); err != nil {
		return nil, err
	}
	d.ReleaseID, d.ReleaseNumber = row.ID, row.Number
	if err := t.startOrKeep(app, d); err != nil {
		return nil, err
	}
	app.UpdatedAt = stampOf(t.now)
	return row, save(t, app)
}

// startOrKeep rolls a pending deployment and writes down the end of another.
func (t *tx) startOrKeep(app *appRow, d *deploymentRow) error {
	switch {
	case d.State == paas.DeploymentPending:
		return t.startRolling(app, d)
	case d.FinishedAt == 0: // overtaken just now
		return t.finishDeployment(app, d, paas.DeploymentSuperseded, nil, "")
	}
	return save(t, d)
}

func (t *tx) recordSuccess(app *appRow, b *buildRow, d *deploymentRow, r paas.BuildResult, logKey string) error {
	b.State, b.LogKey, b.FinishedAt, b.LeaseUntil = paas.BuildSucceeded, logKey, stampOf(t.now), 0
	r.UserEnv = nil // its values are secrets; they live in the configuration
	b.Result = &r
	if err := save(t, b); err != nil {
		return err
	}
	message := fmt.Sprintf("build %d succeeded", b.ID)
	if r.Reused {
		message += "; nothing had changed, so the image of an earlier build serves"
	}
	return t.event(app, "build.succeeded", d.ID, message, "")
}

// adopt takes over what deployment.json says of the app, and the type with the
// first release.
func (t *tx) adopt(app *appRow, r paas.BuildResult, by string) error {
	if app.LastRelease == 0 {
		app.Type = r.Type
	}
	if r.Instances > 0 {
		app.Instances = r.Instances
	}
	if r.MemoryBytes > 0 {
		app.MemoryBytes = r.MemoryBytes
	}
	_, err := t.mergeConfig(app, r.UserEnv, nil, by)
	return err
}

func newRelease(app *appRow, b *buildRow, r paas.BuildResult, by string) *releaseRow {
	return &releaseRow{
		BuildID: b.ID, ArchiveDigest: b.ArchiveDigest, ImageRef: r.ImageRef, ImageDigest: r.ImageDigest,
		ConfigVersion: app.ConfigVersion, Type: r.Type, Command: r.Command, Env: r.Env, MemoryBytes: r.MemoryBytes,
		Health: r.Health, Grace: r.Grace, Reason: string(paas.KindDeploy), CreatedBy: by,
	}
}

// createRelease gives r the next number. The caller saves app.
func (t *tx) createRelease(app *appRow, r *releaseRow, by string) error {
	app.LastRelease++
	r.AppID, r.Number, r.CreatedAt = app.ID, app.LastRelease, stampOf(t.now)
	if err := t.db.Create(r).Error; err != nil {
		return err
	}
	return t.event(app, "release.created", 0, fmt.Sprintf("release %d was made (%s)", r.Number, r.Reason), by)
}
