package store

import (
	"context"
	"strings"

	"github.com/slipway-paas/slipway/internal/paas"
)

// inForce selects the deployments that reconcile acts on, whose releases must be
// kept: those that roll or are watched, what was live before them, and what is
// live.
const inForce = `(state IN ('rolling', 'live')
	OR id IN (SELECT live_deployment FROM apps)
	OR id IN (SELECT previous FROM deployments WHERE state IN ('rolling', 'live')))`

// configsPerQuery keeps the list of conditions well below SQLite's depth limit
// for expressions (1000).
const configsPerQuery = 200

// Work implements paas.Store, in three queries and one more for every 200
// configurations that the previous call has not seen.
func (s *Store) Work(ctx context.Context) (out []paas.AppWork, err error) {
	var configs map[configKey][]paas.EnvVar
	err = s.read(ctx, func(t *tx) error {
		apps, err := t.apps()
		if err != nil {
			return err
		}
		var deployments []deploymentRow
		if err := t.db.Where(inForce).Find(&deployments).Error; err != nil {
			return err
		}
		var releases []releaseRow
		if err := t.db.Where("id IN (SELECT release_id FROM deployments WHERE " + inForce + ")").Find(&releases).Error; err != nil {
			return err
		}
		if configs, err = t.configsOf(apps, releases, s.configs.get()); err != nil {
			return err
		}
		out = assemble(apps, deployments, releases, configs)
		return nil
	})
	if err == nil {
		s.configs.put(configs)
	}
	return out, err
}

// assemble ties each app to its deployments and releases.
func assemble(apps []appRow, deployments []deploymentRow, releases []releaseRow, configs map[configKey][]paas.EnvVar) []paas.AppWork {
	byID := make(map[int64]*deploymentRow, len(deployments))
	active := make(map[string]*deploymentRow, len(apps))
	for i := range deployments {
		d := &deployments[i]
		byID[d.ID] = d
		if !d.State.Final() { // rolling or live; an app has one at most
			active[d.AppID] = d
		}
	}
	released := make(map[int64]*releaseRow, len(releases))
	for i := range releases {
		released[releases[i].ID] = &releases[i]
	}
	out := make([]paas.AppWork, len(apps))
	for i, app := range apps {
		w := paas.AppWork{App: app.app(), Env: make(map[int][]paas.EnvVar)}
		pick := func(d *deploymentRow) (*paas.Deployment, *paas.Release) {
			if d == nil || released[d.ReleaseID] == nil {
				return nil, nil
			}
			dep, rel := d.deployment(app.Name), released[d.ReleaseID].release()
			w.Env[rel.ConfigVersion] = configs[configKey{app.ID, rel.ConfigVersion}]
			return &dep, &rel
		}
		w.Live, w.LiveRelease = pick(byID[app.LiveDeployment])
		w.Active, w.ActiveRelease = pick(active[app.ID])
		if w.Active != nil {
			w.Previous, w.PreviousRelease = pick(byID[w.Active.Previous])
		}
		out[i] = w
	}
	return out
}

// configsOf opens the configurations of releases, but for those that known holds.
func (t *tx) configsOf(apps []appRow, releases []releaseRow, known map[configKey][]paas.EnvVar) (map[configKey][]paas.EnvVar, error) {
	byID := make(map[string]*appRow, len(apps))
	for i := range apps {
		byID[apps[i].ID] = &apps[i]
	}
	out := make(map[configKey][]paas.EnvVar, len(releases))
	var missing []configKey
	for _, r := range releases {
		key := configKey{r.AppID, r.ConfigVersion}
		if _, done := out[key]; done {
			continue
		}
		vars, ok := known[key]
		out[key] = vars
		if !ok {
			missing = append(missing, key)
		}
	}
	for len(missing) > 0 {
		n := min(len(missing), configsPerQuery)
		if err := t.loadConfigs(byID, missing[:n], out); err != nil {
			return nil, err
		}
		missing = missing[n:]
	}
	return out, nil
}

func (t *tx) loadConfigs(apps map[string]*appRow, keys []configKey, out map[configKey][]paas.EnvVar) error {
	args := make([]any, 0, 2*len(keys))
	for _, k := range keys {
		args = append(args, k.app, k.version)
	}
	where := strings.TrimSuffix(strings.Repeat("(app_id = ? AND version = ?) OR ", len(keys)), " OR ")
	var rows []configVarRow
	if err := t.db.Where(where, args...).Find(&rows).Error; err != nil {
		return err
	}
	grouped := make(map[configKey][]configVarRow)
	for _, r := range rows {
		key := configKey{r.AppID, r.Version}
		grouped[key] = append(grouped[key], r)
	}
	for key, group := range grouped {
		vars, err := t.openConfig(apps[key.app], group)
		if err != nil {
			return err
		}
		out[key] = vars
	}
	return nil
}
