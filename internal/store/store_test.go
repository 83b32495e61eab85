package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/internal/seal"
	"github.com/slipway-paas/slipway/internal/store/storetest"
)

// server is the PostgreSQL server of all tests here, started by the first.
var server struct {
	sync.Mutex
	pg  *storetest.Postgres
	err error
}

func TestMain(m *testing.M) {
	if dsn := os.Getenv(childDSN); dsn != "" {
		os.Exit(commitUntilKilled(dsn))
	}
	code := m.Run()
	if server.pg != nil {
		if err := server.pg.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// database is an empty one with the key file that belongs to it.
type database struct {
	dsn    string
	sealer func() *seal.Keeper
}

func newKeyFile(t *testing.T) func() *seal.Keeper {
	path := filepath.Join(t.TempDir(), "secret.key")
	return func() *seal.Keeper { return seal.New(path) }
}

func newSQLite(t *testing.T) database {
	t.Helper()
	return database{"sqlite:" + filepath.Join(t.TempDir(), "slip way?#%.db"), newKeyFile(t)}
}

func newPostgres(t *testing.T) database {
	t.Helper()
	server.Lock()
	defer server.Unlock()
	if server.pg == nil && server.err == nil {
		server.pg, server.err = storetest.StartPostgres(context.Background())
	}
	if server.err != nil {
		t.Fatal(server.err)
	}
	dsn, err := server.pg.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return database{dsn, newKeyFile(t)}
}

func (d database) open(t *testing.T, now func() time.Time) *Store {
	t.Helper()
	s, err := Config{DSN: d.dsn, Sealer: d.sealer(), Now: now, MaxEvents: 1000}.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// eachDatabase runs a test on both kinds.
func eachDatabase(t *testing.T, run func(t *testing.T, d database)) {
	t.Run("SQLite", func(t *testing.T) { run(t, newSQLite(t)) })
	t.Run("PostgreSQL", func(t *testing.T) { run(t, newPostgres(t)) })
}

func TestStore_SQLite(t *testing.T) { testSuite(t, newSQLite) }

func TestStore_PostgreSQL(t *testing.T) { testSuite(t, newPostgres) }

func testSuite(t *testing.T, fresh func(t *testing.T) database) {
	storetest.Run(t, func(t *testing.T) storetest.Opener {
		d := fresh(t)
		return func(t *testing.T, now func() time.Time) paas.Store { return d.open(t, now) }
	})
}

func benchKey(b *testing.B) *seal.Keeper { return seal.New(filepath.Join(b.TempDir(), "secret.key")) }
