package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"slices"
	"strings"

	"github.com/slipway-paas/slipway/internal/paas"
)

// CreateApp implements paas.Store.
func (s *Store) CreateApp(ctx context.Context, a paas.App, by string) (out paas.App, err error) {
	err = s.write(ctx, func(t *tx) error {
		row, err := t.createApp(a, by)
		if err != nil {
			return err
		}
		out = row.app()
		return nil
	})
	return out, err
}

// App implements paas.Store.
func (s *Store) App(ctx context.Context, name string) (out paas.App, err error) {
	err = s.read(ctx, func(t *tx) error {
		row, err := t.app(name)
		if err != nil {
			return err
		}
		out = row.app()
		return nil
	})
	return out, err
}

// Apps implements paas.Store.
func (s *Store) Apps(ctx context.Context) (out []paas.App, err error) {
	err = s.read(ctx, func(t *tx) error {
		rows, err := t.apps()
		out = make([]paas.App, len(rows))
		for i, row := range rows {
			out[i] = row.app()
		}
		return err
	})
	return out, err
}

// UpdateApp implements paas.Store. A change that changes nothing records no
// event. Asking for Deleting ends every deployment and build of the app; after
// that nothing else can be changed.
func (s *Store) UpdateApp(ctx context.Context, name string, change func(*paas.App) error, event, message, by string) (out paas.App, err error) {
	err = s.write(ctx, func(t *tx) error {
		row, err := t.app(name)
		if err != nil {
			return err
		}
		out = row.app()
		next := out
		if err := change(&next); err != nil {
			return err
		}
		if next == out {
			t.quiet = true
			return nil
		}
		if err := checkChange(out, next); err != nil {
			return err
		}
		row.set(next)
		row.UpdatedAt = stampOf(t.now)
		if err := t.followChange(row, out, next, by); err != nil {
			return err
		}
		if err := save(t, row); err != nil {
			return err
		}
		out = row.app()
		if event == "" {
			return nil
		}
		return t.event(row, event, 0, message, by)
	})
	return out, err
}

// followChange does to deployments what a change of the app means for them.
func (t *tx) followChange(row *appRow, old, next paas.App, by string) error {
	if next.Stopped && !old.Stopped {
		// The newest wish wins: a deploy asked for before does not start it again.
		err := t.db.Model(&deploymentRow{}).Where("app_id = ? AND starts_app", row.ID).Update("starts_app", false).Error
		if err != nil {
			return err
		}
	}
	if next.Deleting && !old.Deleting {
		return t.cancelAll(row, by)
	}
	return nil
}

// checkChange refuses what UpdateApp cannot change and values out of range.
func checkChange(old, next paas.App) error {
	if old.Deleting {
		return deletingError(old.Name)
	}
	kept := next
	kept.Stopped, kept.Deleting = old.Stopped, old.Deleting
	kept.Instances, kept.MemoryBytes, kept.CPUMillis = old.Instances, old.MemoryBytes, old.CPUMillis
	if kept != old {
		return fmt.Errorf("update app %s: only Stopped, Deleting, Instances, MemoryBytes and CPUMillis can be changed", old.Name)
	}
	return checkSize(next.Instances, next.MemoryBytes, next.CPUMillis)
}

func checkSize(instances int, memoryBytes int64, cpuMillis int) error {
	switch {
	case instances < 0 || instances > paas.MaxInstances:
		return paas.Errorf(paas.CodeInvalid, "%d instances are asked for, 0 to %d are possible", instances, paas.MaxInstances)
	case memoryBytes != 0 && (memoryBytes < paas.MinMemoryBytes || memoryBytes > paas.MaxMemoryBytes):
		return paas.Errorf(paas.CodeInvalid, "%d bytes of memory are asked for, %d MiB to %d MiB are possible",
			memoryBytes, paas.MinMemoryBytes>>20, int64(paas.MaxMemoryBytes)>>20)
	case cpuMillis < 0:
		return paas.Errorf(paas.CodeInvalid, "cpu of %d is asked for, it cannot be negative", cpuMillis)
	}
	return nil
}

func (t *tx) createApp(a paas.App, by string) (*appRow, error) {
	if err := paas.ValidateAppName(a.Name); err != nil {
		return nil, err
	}
	a.Org = cmp.Or(a.Org, paas.DefaultOrg)
	a.Type = cmp.Or(a.Type, paas.TypeWeb)
	a.Instances = cmp.Or(a.Instances, paas.DefaultInstances)
	if a.Type != paas.TypeWeb && a.Type != paas.TypeWorker {
		return nil, paas.Errorf(paas.CodeInvalid, "app type %q is not known", a.Type).WithHint("use web or worker")
	}
	if err := checkSize(a.Instances, a.MemoryBytes, a.CPUMillis); err != nil {
		return nil, err
	}
	if old, err := find[appRow](t, "org = ? AND name = ?", a.Org, a.Name); err != nil || old != nil {
		if err != nil {
			return nil, err
		}
		if old.Deleting {
			return nil, deletingError(a.Name)
		}
		return nil, paas.Errorf(paas.CodeConflict, "app name %q is taken", a.Name).WithHint("choose another name")
	}
	row := &appRow{ID: newAppID(), Org: a.Org, Name: a.Name, Type: a.Type, CreatedAt: stampOf(t.now), UpdatedAt: stampOf(t.now)}
	row.set(a)
	row.Deleting = false
	if err := t.db.Create(row).Error; err != nil {
		return nil, err
	}
	return row, t.event(row, "app.created", 0, "app "+row.Name+" was created", by)
}

// app finds an app by name.
func (t *tx) app(name string) (*appRow, error) {
	row, err := find[appRow](t, "org = ? AND name = ?", paas.DefaultOrg, name)
	if err == nil && row == nil {
		return nil, paas.Errorf(paas.CodeNotFound, "app %q does not exist", name).WithHint("`slipway apps` lists those that do")
	}
	return row, err
}

// usableApp is app, refused when it is being destroyed.
func (t *tx) usableApp(name string) (*appRow, error) {
	row, err := t.app(name)
	if err == nil && row.Deleting {
		return nil, deletingError(name)
	}
	return row, err
}

// appByID returns the app of a row that refers to it, so it is there.
func (t *tx) appByID(id string) (*appRow, error) {
	row, err := find[appRow](t, "id = ?", id)
	if err == nil && row == nil {
		return nil, paas.Errorf(paas.CodeNotFound, "app %s does not exist", id)
	}
	return row, err
}

// apps returns all, sorted by name here: databases sort by their locale.
func (t *tx) apps() ([]appRow, error) {
	var rows []appRow
	err := t.db.Find(&rows).Error
	slices.SortFunc(rows, func(a, b appRow) int { return strings.Compare(a.Name, b.Name) })
	return rows, err
}

func deletingError(name string) error {
	return paas.Errorf(paas.CodeConflict, "app %q is being destroyed", name).WithHint("wait until it is gone, or choose another name")
}

func newAppID() string {
	raw := make([]byte, 8)
	rand.Read(raw) // never fails (crypto/rand)
	return "a" + strings.ToLower(base32.StdEncoding.EncodeToString(raw))[:12]
}
