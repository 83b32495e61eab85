-- Times are microseconds since 1970 in UTC, 0 = never. {{id}} is the dialect's growing primary key.
CREATE TABLE apps (
  id TEXT PRIMARY KEY,
  org TEXT NOT NULL,
  name TEXT NOT NULL,
  type TEXT NOT NULL,
  stopped BOOLEAN NOT NULL,
  instances BIGINT NOT NULL,
  memory_bytes BIGINT NOT NULL,
  cpu_millis BIGINT NOT NULL,
  live_deployment BIGINT NOT NULL,
  config_version BIGINT NOT NULL,
  last_release BIGINT NOT NULL,
  deleting BOOLEAN NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  UNIQUE (org, name)
);

CREATE TABLE config_vars (
  app_id TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  sealed TEXT NOT NULL,
  PRIMARY KEY (app_id, version, name)
);

CREATE TABLE archives (
  digest TEXT PRIMARY KEY,
  size_bytes BIGINT NOT NULL,
  object_key TEXT NOT NULL,
  created_at BIGINT NOT NULL
);

CREATE TABLE builds (
  id {{id}},
  app_id TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
  archive_digest TEXT NOT NULL REFERENCES archives (digest),
  manifest TEXT NOT NULL,
  deployment TEXT NOT NULL,
  state TEXT NOT NULL,
  attempt BIGINT NOT NULL,
  worker TEXT NOT NULL,
  lease_until BIGINT NOT NULL,
  canceled BOOLEAN NOT NULL,
  trouble TEXT NOT NULL,
  failure TEXT,
  result TEXT,
  log_key TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  started_at BIGINT NOT NULL,
  finished_at BIGINT NOT NULL
);
CREATE INDEX builds_by_app ON builds (app_id, id);
CREATE INDEX builds_by_archive ON builds (archive_digest);
CREATE INDEX builds_waiting ON builds (id) WHERE state IN ('queued', 'building');

CREATE TABLE releases (
  id {{id}},
  app_id TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
  number BIGINT NOT NULL,
  build_id BIGINT NOT NULL,
  archive_digest TEXT NOT NULL,
  image_ref TEXT NOT NULL,
  image_digest TEXT NOT NULL,
  config_version BIGINT NOT NULL,
  type TEXT NOT NULL,
  command TEXT,
  env TEXT,
  memory_bytes BIGINT NOT NULL,
  health TEXT NOT NULL,
  grace BIGINT NOT NULL,
  reason TEXT NOT NULL,
  created_by TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  UNIQUE (app_id, number)
);
CREATE INDEX releases_by_archive ON releases (archive_digest);
CREATE INDEX releases_by_build ON releases (build_id);

CREATE TABLE deployments (
  id {{id}},
  app_id TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
  kind TEXT NOT NULL,
  state TEXT NOT NULL,
  build_id BIGINT NOT NULL,
  release_id BIGINT NOT NULL,
  release_number BIGINT NOT NULL,
  previous BIGINT NOT NULL,
  starts_app BOOLEAN NOT NULL,
  origin TEXT NOT NULL,
  message TEXT NOT NULL,
  by_user TEXT NOT NULL,
  failure TEXT,
  waiting TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  rolling_at BIGINT NOT NULL,
  live_at BIGINT NOT NULL,
  watch_until BIGINT NOT NULL,
  finished_at BIGINT NOT NULL
);
CREATE INDEX deployments_by_app ON deployments (app_id, id);
CREATE INDEX deployments_by_build ON deployments (build_id);
CREATE INDEX deployments_open ON deployments (app_id) WHERE state IN ('pending', 'rolling', 'live');

CREATE TABLE idempotency_keys (
  idem_key TEXT PRIMARY KEY,
  app_id TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
  app_name TEXT NOT NULL,
  archive_digest TEXT NOT NULL,
  deployment_id BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE INDEX idempotency_keys_by_time ON idempotency_keys (created_at);

CREATE TABLE events (
  id {{id}},
  at BIGINT NOT NULL,
  app_id TEXT NOT NULL,
  app_name TEXT NOT NULL,
  kind TEXT NOT NULL,
  deployment BIGINT NOT NULL,
  message TEXT NOT NULL,
  by_user TEXT NOT NULL
);
CREATE INDEX events_by_app ON events (app_id, id);

CREATE TABLE users (
  id {{id}},
  name TEXT NOT NULL UNIQUE,
  created_at BIGINT NOT NULL
);

CREATE TABLE tokens (
  id {{id}},
  user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  label TEXT NOT NULL,
  hash TEXT NOT NULL UNIQUE,
  created_at BIGINT NOT NULL,
  last_used_at BIGINT NOT NULL
);

CREATE TABLE leases (
  name TEXT PRIMARY KEY,
  holder TEXT NOT NULL,
  until BIGINT NOT NULL
);

CREATE TABLE orphan_objects (
  object_key TEXT PRIMARY KEY,
  created_at BIGINT NOT NULL
);
