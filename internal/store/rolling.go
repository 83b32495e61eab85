package store

import (
	"cmp"
	"fmt"

	"github.com/slipway-paas/slipway/internal/paas"
)

// startRolling begins d, which is new or pending, and ends what it takes over
// from. One deployment of an app at most is rolling or watched. The caller saves
// app.
func (t *tx) startRolling(app *appRow, d *deploymentRow) error {
	d.State, d.RollingAt, d.Previous, d.Waiting = paas.DeploymentRolling, stampOf(t.now), app.LiveDeployment, ""
	if d.ID == 0 {
		d.CreatedAt = d.RollingAt
		if err := t.db.Create(d).Error; err != nil {
			return err
		}
	} else if err := save(t, d); err != nil {
		return err
	}
	if err := t.takeOver(app, d); err != nil {
		return err
	}
	if err := t.event(app, "deployment.rolling", d.ID, fmt.Sprintf("release %d is being rolled out", d.ReleaseNumber), d.ByUser); err != nil {
		return err
	}
	if !d.StartsApp || !app.Stopped {
		return nil
	}
	app.Stopped, app.UpdatedAt = false, stampOf(t.now)
	return t.event(app, "app.started", d.ID, "the app was stopped; deploying started it", d.ByUser)
}

// takeOver ends the other deployments of the app. Those whose build still runs
// end only if d chose another release: a new environment or a restart must not
// lose an upload.
func (t *tx) takeOver(app *appRow, d *deploymentRow) error {
	var others []deploymentRow
	err := t.db.Where("app_id = ? AND id <> ? AND state IN ('pending', 'rolling', 'live')", app.ID, d.ID).Order("id").Find(&others).Error
	if err != nil {
		return err
	}
	for i := range others {
		o := &others[i]
		state := paas.DeploymentSuperseded
		switch {
		case o.State == paas.DeploymentLive:
			state = paas.DeploymentSucceeded
		case o.State == paas.DeploymentPending && (o.ID > d.ID || !choosesRelease(d.Kind)):
			continue
		case o.State == paas.DeploymentPending:
			if err := t.cancelQueued(app, o.BuildID); err != nil {
				return err
			}
		}
		if err := t.finishDeployment(app, o, state, nil, ""); err != nil {
			return err
		}
	}
	return nil
}

// overtaken reports whether a newer deployment chose a release and got as far as
// rolling it.
func (t *tx) overtaken(d *deploymentRow) (bool, error) {
	newer, err := find[deploymentRow](t,
		"app_id = ? AND id > ? AND kind IN ('deploy', 'rollback') AND state IN ('rolling', 'live', 'succeeded')", d.AppID, d.ID)
	return newer != nil, err
}

func choosesRelease(k paas.Kind) bool { return k == paas.KindDeploy || k == paas.KindRollback }

// goLive lets d take all traffic. The caller saves app.
func (t *tx) goLive(app *appRow, d *deploymentRow, watchUntil stamp) error {
	d.State, d.LiveAt, d.WatchUntil, d.Waiting = paas.DeploymentLive, stampOf(t.now), watchUntil, ""
	app.LiveDeployment = d.ID
	if err := save(t, d); err != nil {
		return err
	}
	return t.event(app, "deployment.live", d.ID, fmt.Sprintf("release %d is live", d.ReleaseNumber), "")
}

// finishDeployment moves d to a final state and says why.
func (t *tx) finishDeployment(app *appRow, d *deploymentRow, state paas.DeploymentState, f *paas.Failure, by string) error {
	d.State, d.FinishedAt, d.Waiting = state, stampOf(t.now), ""
	message := fmt.Sprintf("deployment %d was canceled", d.ID)
	switch state {
	case paas.DeploymentFailed:
		d.Failure = f
		message = fmt.Sprintf("deployment %d failed", d.ID)
		if f != nil {
			message = f.Message
		}
	case paas.DeploymentSucceeded:
		message = fmt.Sprintf("deployment %d succeeded", d.ID)
	case paas.DeploymentSuperseded:
		message = fmt.Sprintf("a newer deployment took over from deployment %d", d.ID)
	}
	if err := save(t, d); err != nil {
		return err
	}
	return t.event(app, "deployment."+string(state), d.ID, message, by)
}

// cancel ends a deployment that is pending or rolling, and its build.
func (t *tx) cancel(app *appRow, d *deploymentRow, by string) error {
	if d.State == paas.DeploymentPending {
		if err := t.cancelBuild(app, d.BuildID, by); err != nil {
			return err
		}
	}
	return t.finishDeployment(app, d, paas.DeploymentCanceled, nil, by)
}

// cancelAll ends what an app that is being destroyed has under way.
func (t *tx) cancelAll(app *appRow, by string) error {
	var open []deploymentRow
	if err := t.db.Where("app_id = ? AND state IN ('pending', 'rolling')", app.ID).Order("id").Find(&open).Error; err != nil {
		return err
	}
	for i := range open {
		if err := t.cancel(app, &open[i], by); err != nil {
			return err
		}
	}
	var builds []int64 // also those whose deployment ended before them
	err := t.db.Model(&buildRow{}).Where("app_id = ? AND state IN ('queued', 'building')", app.ID).Order("id").Pluck("id", &builds).Error
	for _, id := range builds {
		err = cmp.Or(err, t.cancelBuild(app, id, by))
	}
	return err
}
