// Package store keeps desired state and history in SQLite or PostgreSQL: it
// implements paas.Store. It is the only importer of gorm and the only place with
// SQL; it imports internal/paas and internal/seal and none of the other adapters.
//
// Writers take turns, on both databases: SQLite by its one writer, PostgreSQL by
// an advisory lock that each writing transaction takes first. So a transaction
// reads what the previous one wrote, nothing deadlocks, and IDs (deployments,
// events) grow in the order of the commits. A platform writes a few rows per
// deploy; what is lost in parallel writing is never missed.
//
// Start reading at Open, then tx.go (what a transaction is), then accept.go,
// finish.go and deployments.go: the way of a deploy.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/internal/seal"
)

// defaultMaxEvents is how many events an app keeps.
const defaultMaxEvents = 10_000

// Config says where the database is and what to use beside it.
type Config struct {
	// DSN is "sqlite:/path/to/file" or "postgres://…" (also "postgresql://…").
	DSN string
	// Sealer encrypts the values of environments; required.
	Sealer *seal.Keeper
	// Now is the clock of times, leases and idempotency keys; nil means time.Now.
	// Servers that share a PostgreSQL database need clocks that agree within a
	// fraction of their leases.
	Now func() time.Time
	// MaxEvents bounds the events kept per app, roughly; 0 means 10,000.
	MaxEvents int64
}

// Store implements paas.Store.
type Store struct {
	dialect   dialect
	writer    *gorm.DB
	reader    *gorm.DB
	pools     []*sql.DB
	sealer    *seal.Keeper
	now       func() time.Time
	maxEvents int64
	configs   configCache

	mu      sync.Mutex
	changed chan struct{} // guarded by mu
}

var _ paas.Store = (*Store)(nil)

// Open opens the database with the defaults of Config.
func Open(ctx context.Context, dsn string, sealer *seal.Keeper) (*Store, error) {
	return Config{DSN: dsn, Sealer: sealer}.Open(ctx)
}

// Open opens the database, makes it if it is a SQLite file that does not exist,
// brings its schema up to date and unlocks the sealer. Several processes may do
// so at once. It refuses a schema that is newer than this binary, and a master
// key that is not the one that sealed the stored secrets.
func (c Config) Open(ctx context.Context) (*Store, error) {
	s := &Store{sealer: c.Sealer, now: c.Now, maxEvents: c.MaxEvents, changed: make(chan struct{})}
	if s.now == nil {
		s.now = time.Now
	}
	if s.maxEvents == 0 {
		s.maxEvents = defaultMaxEvents
	}
	if err := s.connect(ctx, c.DSN); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.migrate(ctx, migrations); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.unlock(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) connect(ctx context.Context, dsn string) error {
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok && path != "" {
		return s.connectSQLite(ctx, path)
	}
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		return s.connectPostgres(ctx, dsn)
	}
	scheme, _, _ := strings.Cut(dsn, ":")
	return fmt.Errorf("database address with scheme %q is not supported: use sqlite:/path/to/file or postgres://user@host/database", scheme)
}

// unlock gives the sealer the key IDs that the stored secrets need.
func (s *Store) unlock(ctx context.Context) error {
	var prefixes []string
	err := s.read(ctx, func(t *tx) error {
		return t.db.Raw(`SELECT DISTINCT p FROM (
			SELECT substr(sealed, 1, ?) AS p FROM config_vars
			UNION SELECT substr(manifest, 1, ?) FROM builds WHERE manifest <> ''
			UNION SELECT substr(deployment, 1, ?) FROM builds WHERE deployment <> '') AS sealed_texts`,
			seal.PrefixLen, seal.PrefixLen, seal.PrefixLen).Scan(&prefixes).Error
	})
	if err != nil {
		return fmt.Errorf("look for stored secrets: %w", err)
	}
	return s.sealer.Unlock(prefixes)
}

// Ping reads one row. It waits for a free connection as any read does.
func (s *Store) Ping(ctx context.Context) error {
	var n int
	return s.read(ctx, func(t *tx) error { return t.db.Raw("SELECT 1").Scan(&n).Error })
}

// Version is the database engine's name and version.
func (s *Store) Version(ctx context.Context) (string, error) {
	var v string
	err := s.read(ctx, func(t *tx) error { return t.db.Raw(s.dialect.versionQuery()).Scan(&v).Error })
	v, _, _ = strings.Cut(v, " ") // PostgreSQL adds the distribution
	return s.dialect.String() + " " + v, err
}

// Changed returns a channel that is closed at the next commit made through this
// Store, but for those that only renew a lease or touch a token.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *Store) signal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// Close ends all connections after what runs now. Calling it again does nothing.
func (s *Store) Close() error {
	var errs []error
	for _, p := range s.pools {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}
