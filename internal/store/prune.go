package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

const (
	// historyKept is how many ended deployments an app keeps at least.
	historyKept = 200
	// orphansTold is how long an object key is told again by PruneReleases: whoever
	// was told may have been killed before deleting the object.
	orphansTold = time.Hour
)

// RemoveApp implements paas.Store. It is CodeConflict while a worker still holds
// a build of the app, which ends within that lease: the log and image of that
// build would be left behind. An app that is gone already leaves nothing.
func (s *Store) RemoveApp(ctx context.Context, appID string) (orphanKeys []string, err error) {
	err = s.write(ctx, func(t *tx) error {
		app, err := find[appRow](t, "id = ?", appID)
		if err != nil || app == nil {
			t.quiet = true
			return err
		}
		if !app.Deleting {
			return paas.Errorf(paas.CodeConflict, "app %q is not being destroyed", app.Name)
		}
		running, err := find[buildRow](t, "app_id = ? AND state = 'building' AND lease_until > ?", appID, stampOf(t.now))
		if err != nil {
			return err
		}
		if running != nil {
			return paas.Errorf(paas.CodeConflict, "build %d of app %q is being stopped", running.ID, app.Name).WithHint("try again when it has ended")
		}
		var logs []string
		if err := t.db.Model(&buildRow{}).Where("app_id = ? AND log_key <> ''", appID).Order("id").Pluck("log_key", &logs).Error; err != nil {
			return err
		}
		for _, sql := range []string{"DELETE FROM events WHERE app_id = ?", "DELETE FROM apps WHERE id = ?"} { // the rest cascades
			if err := t.db.Exec(sql, appID).Error; err != nil {
				return err
			}
		}
		if orphanKeys, err = t.orphan(logs); err != nil {
			return err
		}
		return t.addEvent(eventRow{At: stampOf(t.now), AppName: app.Name, Kind: "app.destroyed", Message: "app " + app.Name + " was destroyed"})
	})
	return orphanKeys, err
}

// PruneReleases implements paas.Store; keep is at least 1. With the releases go
// their builds and configurations and what is very old of the deployments. Keys
// that it or RemoveApp returned within the last hour are returned again.
func (s *Store) PruneReleases(ctx context.Context, keep int) (orphanKeys []string, err error) {
	err = s.write(ctx, func(t *tx) error {
		logs, err := t.prune(max(keep, 1))
		if err != nil {
			return err
		}
		fresh, err := t.orphan(logs)
		if err != nil {
			return err
		}
		t.quiet = len(fresh) == 0
		if err := t.db.Raw("SELECT object_key FROM orphan_objects ORDER BY object_key").Scan(&orphanKeys).Error; err != nil {
			return err
		}
		return t.db.Exec("DELETE FROM orphan_objects WHERE created_at <= ?", stampOf(t.now.Add(-orphansTold))).Error
	})
	return orphanKeys, err
}

// prune deletes rows, the referring ones first, and returns the log keys of the
// builds among them.
func (t *tx) prune(keep int) (logKeys []string, err error) {
	const newest = "id IN (SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY app_id ORDER BY id DESC) AS age FROM %s) AS ranked WHERE age <= ?)"
	if err := t.exec("DELETE FROM idempotency_keys WHERE created_at <= ?", stampOf(t.now.Add(-idempotencyKept))); err != nil {
		return nil, err
	}
	err = t.exec("DELETE FROM releases WHERE NOT "+fmt.Sprintf(newest, "releases")+
		" AND id NOT IN (SELECT release_id FROM deployments WHERE "+inForce+")", keep)
	if err != nil {
		return nil, err
	}
	goneBuilds := "state IN ('succeeded', 'failed', 'canceled') AND NOT " + fmt.Sprintf(newest, "builds") +
		" AND id NOT IN (SELECT build_id FROM releases)"
	if err := t.db.Model(&buildRow{}).Where(goneBuilds+" AND log_key <> ''", keep).Order("id").Pluck("log_key", &logKeys).Error; err != nil {
		return nil, err
	}
	if err := t.exec("DELETE FROM builds WHERE "+goneBuilds, keep); err != nil {
		return nil, err
	}
	err = t.exec(`DELETE FROM config_vars WHERE
		NOT EXISTS (SELECT 1 FROM releases r WHERE r.app_id = config_vars.app_id AND r.config_version = config_vars.version)
		AND NOT EXISTS (SELECT 1 FROM apps a WHERE a.id = config_vars.app_id AND a.config_version = config_vars.version)`)
	if err != nil {
		return nil, err
	}
	return logKeys, t.exec("DELETE FROM deployments WHERE state IN ('succeeded', 'failed', 'canceled', 'superseded') AND NOT "+
		fmt.Sprintf(newest, "deployments")+" AND NOT "+inForce+" AND id NOT IN (SELECT deployment_id FROM idempotency_keys)", historyKept)
}

// orphan forgets archives that nothing refers to, and writes down their object
// keys and those of the logs until they are deleted for sure.
func (t *tx) orphan(logKeys []string) ([]string, error) {
	const unused = `NOT EXISTS (SELECT 1 FROM builds b WHERE b.archive_digest = archives.digest)
		AND NOT EXISTS (SELECT 1 FROM releases r WHERE r.archive_digest = archives.digest)`
	var keys []string
	if err := t.db.Model(&archiveRow{}).Where(unused).Order("digest").Pluck("object_key", &keys).Error; err != nil {
		return nil, err
	}
	if err := t.exec("DELETE FROM archives WHERE " + unused); err != nil {
		return nil, err
	}
	keys = slices.Concat(keys, logKeys)
	for _, key := range keys {
		err := t.exec("INSERT INTO orphan_objects (object_key, created_at) VALUES (?, ?) ON CONFLICT (object_key) DO NOTHING", key, stampOf(t.now))
		if err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func (t *tx) exec(sql string, args ...any) error { return t.db.Exec(sql, args...).Error }

// ImagesInUse implements paas.Store.
func (s *Store) ImagesInUse(ctx context.Context) (out map[string]bool, err error) {
	err = s.read(ctx, func(t *tx) error {
		out = make(map[string]bool)
		var refs []string
		if err := t.db.Model(&releaseRow{}).Distinct().Pluck("image_ref", &refs).Error; err != nil {
			return err
		}
		for _, ref := range refs {
			out[ref] = true
		}
		var builds []buildRow
		err := t.db.Select("id", "app_id").Where("state IN ('queued', 'building')").Find(&builds).Error
		for _, b := range builds {
			out[paas.ImageRef(b.AppID, b.ID)] = true
		}
		return err
	})
	return out, err
}
