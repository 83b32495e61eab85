package store

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// Migrations are numbered from 1 without gaps. One that has landed is never
// edited: databases remember its digest and refuse a binary that has another.
//
//go:embed migrations/*.sql
var migrationFiles embed.FS

var migrations = mustMigrations(migrationFiles)

// migration is one step of the schema.
type migration struct {
	version int
	name    string
	text    string
	digest  string // hex SHA-256 of text
}

// mustMigrations panics on a file that is not named NNNN_name.sql in order: that
// is a mistake in this binary, seen by every test.
func mustMigrations(files fs.FS) []migration {
	names, err := fs.Glob(files, "migrations/*.sql") // sorted
	if err != nil {
		panic(err)
	}
	var out []migration
	for i, path := range names {
		text, err := fs.ReadFile(files, path)
		if err != nil {
			panic(err)
		}
		number, name, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(path, "migrations/"), ".sql"), "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != i+1 {
			panic(fmt.Sprintf("migration %s: want number %d", path, i+1))
		}
		sum := sha256.Sum256(text)
		out = append(out, migration{version, name, string(text), hex.EncodeToString(sum[:])})
	}
	return out
}

// migrate applies what is missing, each step in a transaction of its own. The
// writers' lock lets one server do it; the others find it done.
func (s *Store) migrate(ctx context.Context, known []migration) error {
	err := s.write(ctx, func(t *tx) error {
		return t.db.Exec(`CREATE TABLE IF NOT EXISTS schema_migrations (
			version BIGINT PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL, applied_at BIGINT NOT NULL)`).Error
	})
	if err != nil {
		return fmt.Errorf("prepare schema: %w", err)
	}
	for done := false; !done; {
		err := s.write(ctx, func(t *tx) (err error) {
			done, err = t.migrateOne(known)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// migrateOne checks what was applied and applies the next step; done when there
// is none.
func (t *tx) migrateOne(known []migration) (done bool, err error) {
	var applied []struct {
		Version int
		Digest  string
	}
	if err := t.db.Raw("SELECT version, digest FROM schema_migrations ORDER BY version").Scan(&applied).Error; err != nil {
		return false, fmt.Errorf("read schema version: %w", err)
	}
	if n := len(applied); n > len(known) {
		return false, fmt.Errorf("the database has schema version %d, this slipway knows versions up to %d: start the newer slipway again, or restore a backup made before the upgrade", applied[n-1].Version, len(known))
	}
	for i, a := range applied {
		if a.Version != known[i].version || a.Digest != known[i].digest {
			return false, fmt.Errorf("schema version %d of the database was made by another slipway (%.12s, here %.12s): start that one", a.Version, a.Digest, known[i].digest)
		}
	}
	if len(applied) == len(known) {
		return true, nil
	}
	next := known[len(applied)]
	for _, stmt := range t.store.dialect.statements(next.text) {
		if err := t.db.Exec(stmt).Error; err != nil {
			return false, fmt.Errorf("migration %d (%s): %w", next.version, next.name, err)
		}
	}
	err = t.db.Exec("INSERT INTO schema_migrations (version, name, digest, applied_at) VALUES (?, ?, ?, ?)",
		next.version, next.name, next.digest, stampOf(t.now)).Error
	return false, err
}
