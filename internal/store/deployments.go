package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// DeployRelease implements paas.Store. A rollback starts a stopped app; a restart
// of one is CodeConflict, and so is a restart while another deployment rolls.
func (s *Store) DeployRelease(ctx context.Context, app string, number int, kind paas.Kind, by string) (out paas.Deployment, err error) {
	err = s.write(ctx, func(t *tx) error {
		row, err := t.usableApp(app)
		if err != nil {
			return err
		}
		if kind == paas.KindRestart {
			if err := t.checkRestart(row); err != nil {
				return err
			}
		}
		r, err := t.releaseToDeploy(row, number)
		if err != nil {
			return err
		}
		d := &deploymentRow{AppID: row.ID, Kind: kind, ReleaseID: r.ID, ReleaseNumber: r.Number, StartsApp: row.Stopped, ByUser: by}
		if err := t.startRolling(row, d); err != nil {
			return err
		}
		out = d.deployment(row.Name)
		return save(t, row)
	})
	return out, err
}

// Deployment implements paas.Store.
func (s *Store) Deployment(ctx context.Context, id int64) (out paas.Deployment, err error) {
	err = s.read(ctx, func(t *tx) error {
		d, app, err := t.deployment(id)
		if err != nil {
			return err
		}
		out = d.deployment(app.Name)
		return nil
	})
	return out, err
}

// Deployments implements paas.Store. limit 0 means 50.
func (s *Store) Deployments(ctx context.Context, app string, limit int) (out []paas.Deployment, err error) {
	err = s.read(ctx, func(t *tx) error {
		row, err := t.app(app)
		if err != nil {
			return err
		}
		var rows []deploymentRow
		err = t.db.Where("app_id = ?", row.ID).Order("id DESC").Limit(listLimit(limit)).Find(&rows).Error
		out = make([]paas.Deployment, len(rows))
		for i, d := range rows {
			out[i] = d.deployment(row.Name)
		}
		return err
	})
	return out, err
}

// CancelDeployment implements paas.Store. The deployment is canceled at once; a
// running build ends when its worker next renews its lease.
func (s *Store) CancelDeployment(ctx context.Context, id int64, by string) (out paas.Deployment, err error) {
	err = s.write(ctx, func(t *tx) error {
		d, app, err := t.deployment(id)
		if err != nil {
			return err
		}
		if d.State != paas.DeploymentPending && d.State != paas.DeploymentRolling {
			return paas.Errorf(paas.CodeConflict, "deployment %d is %s, only a pending or rolling one can be canceled", id, d.State).
				WithHint("`slipway rollback` returns to an older release")
		}
		if err := t.cancel(app, d, by); err != nil {
			return err
		}
		out = d.deployment(app.Name)
		return nil
	})
	return out, err
}

// SetWaiting implements paas.Store. The same sentence again writes nothing, nor
// does one for a deployment that is final or gone.
func (s *Store) SetWaiting(ctx context.Context, id int64, waiting string) error {
	var due bool
	err := s.read(ctx, func(t *tx) error {
		d, err := find[deploymentRow](t, "id = ?", id)
		due = d != nil && !d.State.Final() && d.Waiting != waiting
		return err
	})
	if err != nil || !due {
		return err
	}
	return s.write(ctx, func(t *tx) error {
		return t.db.Model(&deploymentRow{}).Where("id = ? AND state IN ('pending', 'rolling', 'live')", id).Update("waiting", waiting).Error
	})
}

// moves are the transitions that MoveDeployment makes; the others belong to
// FinishBuild, DeployRelease and SetEnv.
var moves = map[paas.DeploymentState][]paas.DeploymentState{
	paas.DeploymentPending: {paas.DeploymentFailed, paas.DeploymentCanceled, paas.DeploymentSuperseded},
	paas.DeploymentRolling: {paas.DeploymentLive, paas.DeploymentFailed, paas.DeploymentCanceled, paas.DeploymentSuperseded},
	paas.DeploymentLive:    {paas.DeploymentSucceeded, paas.DeploymentFailed},
}

// MoveDeployment implements paas.Store. A transition that does not exist is an
// internal error; a deployment that is gone is not moved.
func (s *Store) MoveDeployment(ctx context.Context, id int64, from, to paas.DeploymentState, watchUntil time.Time, f *paas.Failure) (moved bool, err error) {
	if !slices.Contains(moves[from], to) {
		return false, fmt.Errorf("move deployment %d: %s does not become %s", id, from, to)
	}
	err = s.write(ctx, func(t *tx) error {
		d, err := find[deploymentRow](t, "id = ?", id)
		if err != nil {
			return err
		}
		if moved = d != nil && d.State == from; !moved {
			t.quiet = true
			return nil
		}
		app, err := t.appByID(d.AppID)
		if err != nil {
			return err
		}
		if to == paas.DeploymentLive {
			if err := t.goLive(app, d, stampOf(watchUntil)); err != nil {
				return err
			}
			return save(t, app)
		}
		if from == paas.DeploymentPending {
			if err := t.cancelBuild(app, d.BuildID, ""); err != nil {
				return err
			}
		}
		if from == paas.DeploymentLive && to == paas.DeploymentFailed && app.LiveDeployment == d.ID {
			app.LiveDeployment = d.Previous
			if err := save(t, app); err != nil {
				return err
			}
		}
		return t.finishDeployment(app, d, to, f, "")
	})
	return moved && err == nil, err
}

func (t *tx) checkRestart(app *appRow) error {
	if app.Stopped {
		return paas.Errorf(paas.CodeConflict, "app %q is stopped", app.Name).WithHint("`slipway start` starts it")
	}
	rolling, err := find[deploymentRow](t, "app_id = ? AND state = 'rolling'", app.ID)
	if err != nil || rolling == nil {
		return err
	}
	return paas.Errorf(paas.CodeConflict, "deployment %d of app %q is rolling, so its instances are new already", rolling.ID, app.Name).
		WithHint("wait until it is done, or cancel it")
}

func (t *tx) deployment(id int64) (*deploymentRow, *appRow, error) {
	d, err := find[deploymentRow](t, "id = ?", id)
	if err != nil {
		return nil, nil, err
	}
	if d == nil {
		return nil, nil, paas.Errorf(paas.CodeNotFound, "deployment %d does not exist", id)
	}
	app, err := t.appByID(d.AppID)
	return d, app, err
}

// currentDeployment is the one that rolls or is watched, else the live one; nil
// before the first.
func (t *tx) currentDeployment(app *appRow) (*deploymentRow, error) {
	d, err := find[deploymentRow](t, "app_id = ? AND state IN ('rolling', 'live')", app.ID)
	if err != nil || d != nil {
		return d, err
	}
	return find[deploymentRow](t, "id = ?", app.LiveDeployment)
}
