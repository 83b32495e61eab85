package store

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// holdLock begins a writing transaction of another process.
func holdLock(t *testing.T, s *Store) *sql.Tx {
	t.Helper()
	pool := s.pools[0]
	held, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.dialect == dialectPostgres {
		if _, err := held.Exec("SELECT pg_advisory_xact_lock($1)", writersLock); err != nil {
			t.Fatal(err)
		}
	}
	return held
}

func TestStore_LockHeldFor3Seconds_WaitsWithoutError(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database) {
		t.Parallel()
		s, other := d.open(t, nil), d.open(t, nil)
		held := holdLock(t, other)
		const hold = 3 * time.Second
		release := time.AfterFunc(hold, func() { _ = held.Rollback() })
		defer release.Stop()
		started := time.Now()
		if _, err := s.Apps(t.Context()); err != nil || time.Since(started) > hold/2 {
			t.Fatalf("a read took %s, %v; it must not wait for writers", time.Since(started), err)
		}
		if _, err := s.CreateApp(t.Context(), paas.App{Name: "shop"}, "ann"); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(started); waited < hold {
			t.Fatalf("it took %s, so nothing was locked", waited)
		}
	})
}

func TestStore_LockHeld_ContextEndsTheWait(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database) {
		t.Parallel()
		s, other := d.open(t, nil), d.open(t, nil)
		held := holdLock(t, other)
		defer held.Rollback()
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		started := time.Now()
		_, err := s.CreateApp(ctx, paas.App{Name: "shop"}, "ann")
		if err == nil || time.Since(started) > 5*time.Second {
			t.Fatalf("after %s: %v; want an error soon after 200 ms", time.Since(started), err)
		}
	})
}

func TestSQLite_TransactionLeftOpen_IsRecovered(t *testing.T) {
	s := newSQLite(t).open(t, nil)
	if _, err := s.pools[0].Exec("BEGIN IMMEDIATE"); err != nil { // as after a failed commit
		t.Fatal(err)
	}
	if _, err := s.CreateApp(t.Context(), paas.App{Name: "shop"}, "ann"); err != nil {
		t.Fatal(err)
	}
}

func TestSQLite_DiskFull_SaysSoAndGoesOn(t *testing.T) {
	s := newSQLite(t).open(t, nil)
	limit := func(pages string) {
		t.Helper()
		if _, err := s.pools[0].Exec("PRAGMA max_page_count = " + pages); err != nil {
			t.Fatal(err)
		}
	}
	limit("1") // SQLite takes the present size instead
	var err error
	for i := 0; err == nil && i < 10_000; i++ {
		err = s.AddEvent(t.Context(), paas.Event{Kind: "test.event", Message: string(make([]byte, 2000))})
	}
	if paas.CodeOf(err) != paas.CodeStorageFull {
		t.Fatalf("error = %v; want CodeStorageFull", err)
	}
	limit("1000000")
	if err := s.AddEvent(t.Context(), paas.Event{Kind: "test.event"}); err != nil {
		t.Fatalf("after space was freed: %v", err)
	}
}

type stateError string

func (e stateError) Error() string    { return "state " + string(e) }
func (e stateError) SQLState() string { return string(e) }

func TestRetry_RepeatsOnlyWhatIsSafe(t *testing.T) {
	s := newSQLite(t).open(t, nil)
	for _, c := range []struct {
		name       string
		err        error
		repeatable bool
		wantTries  int32
	}{
		{"serialization failure, even at commit", stateError("40001"), false, 3},
		{"shutdown before commit", stateError("57P01"), true, 3},
		{"shutdown during commit is not known", stateError("57P01"), false, 1},
		{"connection broke before commit", io.ErrUnexpectedEOF, true, 3},
		{"connection broke during commit", io.ErrUnexpectedEOF, false, 1},
		{"unique violation", stateError("23505"), true, 1},
		{"refusal", paas.Errorf(paas.CodeConflict, "no"), true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var tries atomic.Int32
			err := s.retry(t.Context(), func() (bool, error) {
				if tries.Add(1) == 3 {
					return c.repeatable, nil
				}
				return c.repeatable, c.err
			})
			if tries.Load() != c.wantTries || (err == nil) != (c.wantTries == 3) {
				t.Fatalf("%d tries, %v; want %d tries", tries.Load(), err, c.wantTries)
			}
		})
	}
}

func TestWrite_Panic_RollsBackAndFreesTheWriter(t *testing.T) {
	s := newSQLite(t).open(t, nil)
	func() {
		defer func() { _ = recover() }() // the panic is the test's own
		_ = s.write(t.Context(), func(tx *tx) error {
			if _, err := tx.createApp(paas.App{Name: "shop"}, "ann"); err != nil {
				t.Error(err)
			}
			panic("test")
		})
	}()
	if _, err := s.App(t.Context(), "shop"); paas.CodeOf(err) != paas.CodeNotFound {
		t.Fatalf("App = %v; want CodeNotFound", err)
	}
	if _, err := s.CreateApp(t.Context(), paas.App{Name: "shop"}, "ann"); err != nil {
		t.Fatal(err)
	}
}

func TestForPeople_KeepsTheCause(t *testing.T) {
	cause := errors.New("cause")
	err := forPeople(cause, full, 0)
	if !errors.Is(err, cause) || paas.CodeOf(err) != paas.CodeStorageFull {
		t.Fatalf("forPeople = %v", err)
	}
}

func TestPostgreSQL_ConnectionsKilled_NextCallsSucceed(t *testing.T) {
	d := newPostgres(t)
	s, operator := d.open(t, nil), d.open(t, nil)
	for round := range 3 {
		if _, err := s.Apps(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := operator.reader.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()").Error; err != nil {
			t.Fatal(err)
		}
		if err := s.AddEvent(t.Context(), paas.Event{Kind: "test.event"}); err != nil {
			t.Fatalf("round %d: write: %v", round, err)
		}
		if _, err := s.Apps(t.Context()); err != nil {
			t.Fatalf("round %d: read: %v", round, err)
		}
	}
}

func TestPostgreSQL_NoServer_IsUnavailable(t *testing.T) {
	t.Parallel()
	_, err := Open(t.Context(), "postgres:///db?host="+t.TempDir()+"&user=u&password=canary", newKeyFile(t)())
	if paas.CodeOf(err) != paas.CodeUnavailable || strings.Contains(err.Error(), "canary") {
		t.Fatalf("Open = %v; want CodeUnavailable without the password", err)
	}
}
