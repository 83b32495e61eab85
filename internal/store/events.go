package store

import (
	"context"

	"github.com/slipway-paas/slipway/internal/paas"
)

const (
	defaultEvents = 100
	maxEvents     = 1000
	// pruneEvery is how many events pass between two looks at what is too old.
	pruneEvery = 64
)

// AddEvent implements paas.Store. At is set to now when it is zero.
func (s *Store) AddEvent(ctx context.Context, e paas.Event) error {
	return s.write(ctx, func(t *tx) error {
		at := stampOf(e.At)
		if at == 0 {
			at = stampOf(t.now)
		}
		return t.addEvent(eventRow{At: at, AppID: e.AppID, AppName: e.AppName, Kind: e.Kind,
			Deployment: e.Deployment, Message: e.Message, ByUser: e.By})
	})
}

// Events implements paas.Store. limit 0 means 100; more than 1000 are not told at
// once.
func (s *Store) Events(ctx context.Context, app string, after int64, limit int) (out []paas.Event, err error) {
	if limit <= 0 {
		limit = defaultEvents
	}
	err = s.read(ctx, func(t *tx) error {
		q := t.db.Where("id > ?", after)
		if app != "" {
			row, err := t.app(app)
			if err != nil {
				return err
			}
			q = q.Where("app_id = ?", row.ID)
		}
		var rows []eventRow
		err := q.Order("id").Limit(min(limit, maxEvents)).Find(&rows).Error
		out = make([]paas.Event, len(rows))
		for i, r := range rows {
			out[i] = paas.Event{ID: r.ID, At: r.At.time(), AppID: r.AppID, AppName: r.AppName, Kind: r.Kind,
				Deployment: r.Deployment, Message: r.Message, By: r.ByUser}
		}
		return err
	})
	return out, err
}

// LastEventID implements paas.Store; 0 when nothing has happened yet.
func (s *Store) LastEventID(ctx context.Context) (id int64, err error) {
	err = s.read(ctx, func(t *tx) error {
		return t.db.Raw("SELECT coalesce(max(id), 0) FROM events").Scan(&id).Error
	})
	return id, err
}

// event records what this transaction does to an app.
func (t *tx) event(app *appRow, kind string, deployment int64, message, by string) error {
	return t.addEvent(eventRow{At: stampOf(t.now), AppID: app.ID, AppName: app.Name, Kind: kind,
		Deployment: deployment, Message: message, ByUser: by})
}

func (t *tx) addEvent(row eventRow) error {
	if row.ByUser == "" {
		row.ByUser = "slipway"
	}
	if err := t.db.Create(&row).Error; err != nil {
		return err
	}
	if row.ID%pruneEvery != 0 {
		return nil
	}
	return t.db.Exec(`DELETE FROM events WHERE app_id = ? AND id <=
		(SELECT id FROM events WHERE app_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?)`,
		row.AppID, row.AppID, t.store.maxEvents).Error
}
