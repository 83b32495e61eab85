package store

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/internal/seal"
)

// Limits of an environment. Linux takes 128 KiB for one NAME=value and 2 MiB for
// all of them with the arguments (execve(2)).
const (
	maxEnvName  = 128
	maxEnvValue = 64 << 10
	maxEnvTotal = 512 << 10
)

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// SetEnv implements paas.Store. The new Release has the image of the deployment
// that is rolling, else of the live one. A deployment whose build still runs is
// not overtaken: its release will hold the new environment. Of a stopped app
// nothing has to roll, so its deployment has succeeded at once.
func (s *Store) SetEnv(ctx context.Context, app string, set map[string]string, unset []string, by string) (out *paas.Deployment, err error) {
	err = s.write(ctx, func(t *tx) error {
		out = nil
		row, err := t.usableApp(app)
		if err != nil {
			return err
		}
		changed, err := t.mergeConfig(row, set, unset, by)
		if err != nil {
			return err
		}
		if !changed {
			t.quiet = true
			return nil
		}
		d, err := t.rollConfig(row, by)
		if err != nil {
			return err
		}
		if d != nil {
			dep := d.deployment(row.Name)
			out = &dep
		}
		row.UpdatedAt = stampOf(t.now)
		return save(t, row)
	})
	return out, err
}

// Env implements paas.Store.
func (s *Store) Env(ctx context.Context, app string) (out []paas.EnvVar, err error) {
	err = s.read(ctx, func(t *tx) error {
		row, err := t.app(app)
		if err != nil {
			return err
		}
		out, err = t.config(row)
		return err
	})
	return out, err
}

// rollConfig makes a release with the newest configuration and starts to roll it;
// nil when there is no release to take the image from.
func (t *tx) rollConfig(app *appRow, by string) (*deploymentRow, error) {
	base, err := t.currentDeployment(app)
	if err != nil || base == nil {
		return nil, err
	}
	r, err := find[releaseRow](t, "id = ?", base.ReleaseID)
	if err != nil || r == nil {
		return nil, err
	}
	r.ID, r.ConfigVersion, r.Reason, r.CreatedBy = 0, app.ConfigVersion, string(paas.KindEnv), by
	if err := t.createRelease(app, r, by); err != nil {
		return nil, err
	}
	d := &deploymentRow{AppID: app.ID, Kind: paas.KindEnv, ReleaseID: r.ID, ReleaseNumber: r.Number, ByUser: by}
	if err := t.startRolling(app, d); err != nil {
		return nil, err
	}
	if !app.Stopped {
		return d, nil
	}
	if err := t.goLive(app, d, stampOf(t.now)); err != nil {
		return nil, err
	}
	return d, t.finishDeployment(app, d, paas.DeploymentSucceeded, nil, "")
}

// mergeConfig makes a new config version when set and unset change something. The
// caller saves app.
func (t *tx) mergeConfig(app *appRow, set map[string]string, unset []string, by string) (changed bool, err error) {
	old, err := t.configMap(app)
	if err != nil {
		return false, err
	}
	next := maps.Clone(old)
	for _, name := range unset {
		delete(next, name)
	}
	maps.Copy(next, set)
	if maps.Equal(old, next) {
		return false, checkEnv(set)
	}
	if err := checkEnv(next); err != nil {
		return false, err
	}
	app.ConfigVersion++
	var rows []configVarRow
	for _, name := range slices.Sorted(maps.Keys(next)) {
		sealed, err := t.store.sealer.Seal(configPlace(app, app.ConfigVersion, name), []byte(next[name]))
		if err != nil {
			return false, fmt.Errorf("seal %s of app %s: %w", name, app.Name, err)
		}
		rows = append(rows, configVarRow{AppID: app.ID, Version: app.ConfigVersion, Name: name, Sealed: sealed})
	}
	if len(rows) > 0 {
		if err := t.db.CreateInBatches(rows, 100).Error; err != nil {
			return false, err
		}
	}
	return true, t.event(app, "env.changed", 0, describeChange(old, next), by)
}

// config opens the newest configuration.
func (t *tx) config(app *appRow) ([]paas.EnvVar, error) {
	var rows []configVarRow
	if err := t.db.Where("app_id = ? AND version = ?", app.ID, app.ConfigVersion).Find(&rows).Error; err != nil {
		return nil, err
	}
	return t.openConfig(app, rows)
}

func (t *tx) configMap(app *appRow) (map[string]string, error) {
	vars, err := t.config(app)
	out := make(map[string]string, len(vars))
	for _, v := range vars {
		out[v.Name] = string(v.Value)
	}
	return out, err
}

// openConfig decrypts rows of one version, sorted by name.
func (t *tx) openConfig(app *appRow, rows []configVarRow) ([]paas.EnvVar, error) {
	out := make([]paas.EnvVar, len(rows))
	for i, r := range rows {
		value, err := t.store.sealer.Open(configPlace(app, r.Version, r.Name), r.Sealed)
		if err != nil {
			return nil, fmt.Errorf("open %s of app %s, config version %d: %w", r.Name, app.Name, r.Version, err)
		}
		out[i] = paas.EnvVar{Name: r.Name, Value: paas.Secret(value)}
	}
	slices.SortFunc(out, func(a, b paas.EnvVar) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func configPlace(app *appRow, version int, name string) seal.Place {
	return seal.Place{Org: app.Org, App: app.ID, Version: version, Name: name}
}

func checkEnv(vars map[string]string) error {
	total := 0
	for name, value := range vars {
		total += len(name) + len(value) + len("=\x00")
		switch {
		case len(name) > maxEnvName || !envName.MatchString(name):
			return paas.Errorf(paas.CodeInvalid, "environment variable name %.140q is not allowed", name).
				WithHint("use at most %d letters, digits and _, not starting with a digit", maxEnvName)
		case len(value) > maxEnvValue:
			return paas.Errorf(paas.CodeInvalid, "environment variable %s has %d bytes, the limit is %d", name, len(value), maxEnvValue).
				WithHint("put large data into a file of the archive")
		case strings.ContainsRune(value, 0):
			return paas.Errorf(paas.CodeInvalid, "environment variable %s has a zero byte in it", name)
		}
	}
	if total > maxEnvTotal {
		return paas.Errorf(paas.CodeInvalid, "the environment has %d bytes, the limit is %d", total, maxEnvTotal)
	}
	return nil
}

// describeChange tells names, never values.
func describeChange(old, next map[string]string) string {
	var set, removed []string
	for _, name := range slices.Sorted(maps.Keys(next)) {
		if v, ok := old[name]; !ok || v != next[name] {
			set = append(set, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if _, ok := next[name]; !ok {
			removed = append(removed, name)
		}
	}
	var parts []string
	if len(set) > 0 {
		parts = append(parts, "set "+strings.Join(set, ", "))
	}
	if len(removed) > 0 {
		parts = append(parts, "removed "+strings.Join(removed, ", "))
	}
	return strings.Join(parts, "; ")
}

// configKey names one configuration; it never changes once it is committed.
type configKey struct {
	app     string // ID
	version int
}

// configCache holds the opened configurations that the last Work gave out, since
// reconcile asks often and decryption would be most of its cost.
type configCache struct {
	mu   sync.Mutex
	vars map[configKey][]paas.EnvVar // guarded by mu; replaced, never changed
}

func (c *configCache) get() map[configKey][]paas.EnvVar {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.vars
}

func (c *configCache) put(vars map[configKey][]paas.EnvVar) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.vars = vars
}
