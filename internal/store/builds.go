package store

import (
	"context"
	"fmt"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// waitingBuilds selects what a worker may claim; the first condition is that of
// the index builds_waiting.
const waitingBuilds = "state IN ('queued', 'building') AND (state = 'queued' OR lease_until <= ?)"

// ClaimBuild implements paas.Store. A build that nobody waits for any more is
// canceled on the way.
func (s *Store) ClaimBuild(ctx context.Context, worker string, lease time.Duration) (out *paas.Build, err error) {
	var any bool // a look that writes nothing: workers ask often
	err = s.read(ctx, func(t *tx) error {
		b, err := find[buildRow](t, waitingBuilds, stampOf(t.now))
		any = b != nil
		return err
	})
	if err != nil || !any {
		return nil, err
	}
	err = s.write(ctx, func(t *tx) error {
		out, t.quiet = nil, true
		for {
			var rows []buildRow
			if err := t.db.Where(waitingBuilds, stampOf(t.now)).Order("id").Limit(1).Find(&rows).Error; err != nil || len(rows) == 0 {
				return err
			}
			t.quiet = false
			out, err = t.claim(&rows[0], worker, lease)
			if err != nil || out != nil {
				return err
			}
		}
	})
	return out, err
}

// claim gives b to worker; nil when the build has ended instead.
func (t *tx) claim(b *buildRow, worker string, lease time.Duration) (*paas.Build, error) {
	app, err := t.appByID(b.AppID)
	if err != nil {
		return nil, err
	}
	d, err := find[deploymentRow](t, "build_id = ?", b.ID)
	if err != nil {
		return nil, err
	}
	if b.Canceled || d == nil || d.State.Final() {
		return nil, t.endBuild(app, b, paas.BuildCanceled, nil, "", "")
	}
	if b.Attempt >= paas.MaxBuildAttempts {
		return nil, t.endBuild(app, b, paas.BuildFailed, builderLost(b), "", "")
	}
	b.State, b.Worker, b.Attempt, b.LeaseUntil = paas.BuildBuilding, worker, b.Attempt+1, stampOf(t.now.Add(lease))
	if b.StartedAt == 0 {
		b.StartedAt = stampOf(t.now)
	}
	if err := save(t, b); err != nil {
		return nil, err
	}
	message := fmt.Sprintf("build %d started", b.ID)
	if b.Attempt > 1 {
		message = fmt.Sprintf("build %d started again, attempt %d of %d", b.ID, b.Attempt, paas.MaxBuildAttempts)
	}
	if err := t.event(app, "build.started", d.ID, message, ""); err != nil {
		return nil, err
	}
	return t.build(app, b)
}

func builderLost(b *buildRow) *paas.Failure {
	f := &paas.Failure{
		Code:    "builder_lost",
		Message: fmt.Sprintf("the build was started %d times and the platform did not finish it", b.Attempt),
		Hint:    "this is not the app's fault; deploy again, and look at `slipway status` if it comes back",
	}
	if b.Trouble != "" {
		f.Output = []string{b.Trouble}
	}
	return f
}

// RenewBuild implements paas.Store.
func (s *Store) RenewBuild(ctx context.Context, id int64, attempt int, lease time.Duration) (cancel bool, err error) {
	err = s.write(ctx, func(t *tx) error {
		t.quiet = true
		b, err := t.heldBuild(id, attempt)
		if err != nil {
			return err
		}
		cancel = b.Canceled
		b.LeaseUntil = stampOf(t.now.Add(lease))
		return save(t, b)
	})
	return cancel && err == nil, err
}

// FailBuild implements paas.Store. The same call again does nothing.
func (s *Store) FailBuild(ctx context.Context, id int64, attempt int, state paas.BuildState, f paas.Failure, logKey string) error {
	if state != paas.BuildFailed && state != paas.BuildCanceled {
		return fmt.Errorf("fail build %d: %s is not a way to fail", id, state)
	}
	return s.write(ctx, func(t *tx) error {
		if done, err := find[buildRow](t, "id = ? AND attempt = ? AND state = ?", id, attempt, state); err != nil || done != nil {
			t.quiet = true
			return err
		}
		b, err := t.heldBuild(id, attempt)
		if err != nil {
			return err
		}
		app, err := t.appByID(b.AppID)
		if err != nil {
			return err
		}
		failure := &f
		if state == paas.BuildCanceled {
			failure = nil
		}
		return t.endBuild(app, b, state, failure, logKey, "")
	})
}

// ReleaseBuild implements paas.Store. The attempt counts; one that was to be
// canceled is.
func (s *Store) ReleaseBuild(ctx context.Context, id int64, attempt int, why string) error {
	return s.write(ctx, func(t *tx) error {
		b, err := t.heldBuild(id, attempt)
		if err != nil {
			return err
		}
		app, err := t.appByID(b.AppID)
		if err != nil {
			return err
		}
		if b.Canceled {
			return t.endBuild(app, b, paas.BuildCanceled, nil, "", "")
		}
		b.State, b.Worker, b.LeaseUntil, b.Trouble = paas.BuildQueued, "", 0, why
		if err := save(t, b); err != nil {
			return err
		}
		message := fmt.Sprintf("build %d went back to the queue after attempt %d: %s", b.ID, b.Attempt, why)
		return t.buildEvent(app, b, "build.requeued", message)
	})
}

// heldBuild returns a build that attempt still owns.
func (t *tx) heldBuild(id int64, attempt int) (*buildRow, error) {
	b, err := find[buildRow](t, "id = ?", id)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, paas.Errorf(paas.CodeConflict, "build %d is gone with its app", id)
	}
	if b.State != paas.BuildBuilding || b.Attempt != attempt {
		return nil, paas.Errorf(paas.CodeConflict, "attempt %d of build %d does not hold it: it is %s, attempt %d", attempt, id, b.State, b.Attempt)
	}
	return b, nil
}

// endBuild fails or cancels a build, with its deployment if that still waits.
func (t *tx) endBuild(app *appRow, b *buildRow, state paas.BuildState, f *paas.Failure, logKey, by string) error {
	b.State, b.Failure, b.LogKey = state, f, logKey
	b.FinishedAt, b.LeaseUntil = stampOf(t.now), 0
	if err := save(t, b); err != nil {
		return err
	}
	d, err := find[deploymentRow](t, "build_id = ?", b.ID)
	if err != nil {
		return err
	}
	message, next := fmt.Sprintf("build %d was canceled", b.ID), paas.DeploymentCanceled
	if state == paas.BuildFailed {
		message, next = f.Message, paas.DeploymentFailed
	}
	var id int64
	if d != nil {
		id = d.ID
	}
	if err := t.event(app, "build."+string(state), id, message, by); err != nil {
		return err
	}
	if d == nil || d.State != paas.DeploymentPending {
		return nil
	}
	return t.finishDeployment(app, d, next, f, by)
}

// cancelBuild ends a queued build and asks the worker of a running one to stop.
func (t *tx) cancelBuild(app *appRow, id int64, by string) error {
	b, err := find[buildRow](t, "id = ?", id)
	if err != nil || b == nil || b.State.Final() {
		return err
	}
	if b.State == paas.BuildBuilding {
		return t.db.Model(&buildRow{}).Where("id = ?", id).Update("canceled", true).Error
	}
	return t.cancelQueued(app, id)
}

// cancelQueued ends a build that nobody has claimed; its deployment is the
// caller's.
func (t *tx) cancelQueued(app *appRow, id int64) error {
	b, err := find[buildRow](t, "id = ? AND state = 'queued'", id)
	if err != nil || b == nil {
		return err
	}
	b.State, b.Canceled, b.FinishedAt = paas.BuildCanceled, true, stampOf(t.now)
	if err := save(t, b); err != nil {
		return err
	}
	return t.buildEvent(app, b, "build.canceled", fmt.Sprintf("build %d was canceled", id))
}

// buildEvent records what happens to a build, with its deployment.
func (t *tx) buildEvent(app *appRow, b *buildRow, kind, message string) error {
	d, err := find[deploymentRow](t, "build_id = ?", b.ID)
	if err != nil {
		return err
	}
	var id int64 // 0 if its deployment was pruned
	if d != nil {
		id = d.ID
	}
	return t.event(app, kind, id, message, "")
}
