package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"gorm.io/gorm"
	sqlitelib "modernc.org/sqlite/lib"

	"github.com/slipway-paas/slipway/internal/paas"
)

const (
	// lockWait is how long a transaction waits for a database that another process
	// holds, or that is starting; the context may end it sooner.
	lockWait = 60 * time.Second
	// outageWait is how long it waits for a server that does not answer at all:
	// enough for a restart, short enough for a request.
	outageWait   = 5 * time.Second
	firstBackoff = 5 * time.Millisecond
	maxBackoff   = 500 * time.Millisecond
	// writersLock is the key of PostgreSQL's advisory lock ("slipway" in ASCII).
	writersLock = 0x736c6970776179
)

// tx is one transaction as the methods of Store see it.
type tx struct {
	store *Store
	db    *gorm.DB
	now   time.Time
	quiet bool // nothing that Changed is about was written
}

// write runs fn in a transaction that no other writer overlaps, and commits. fn
// runs again when the database asks for it, so it must not act on anything else.
func (s *Store) write(ctx context.Context, fn func(*tx) error) error {
	var quiet bool
	err := s.retry(ctx, func() (bool, error) {
		t := &tx{store: s, now: s.now()}
		repeatable, err := s.attempt(ctx, s.writer, nil, t, fn)
		quiet = t.quiet
		return repeatable, err
	})
	if err == nil && !quiet {
		s.signal()
	}
	return err
}

// read runs fn on one consistent state of the database.
func (s *Store) read(ctx context.Context, fn func(*tx) error) error {
	opts := &sql.TxOptions{ReadOnly: true}
	if s.dialect == dialectPostgres {
		opts.Isolation = sql.LevelRepeatableRead
	}
	return s.retry(ctx, func() (bool, error) {
		return s.attempt(ctx, s.reader, opts, &tx{store: s, now: s.now()}, fn)
	})
}

// attempt is one try. repeatable is false when the commit's outcome is not known.
func (s *Store) attempt(ctx context.Context, db *gorm.DB, opts *sql.TxOptions, t *tx, fn func(*tx) error) (repeatable bool, err error) {
	t.db = db.WithContext(ctx).Begin(opts)
	if t.db.Error != nil {
		return true, s.recoverWriter(ctx, t.db.Error)
	}
	done := false
	defer func() {
		if !done {
			t.db.Rollback() // its error adds nothing: the connection is reset or dropped
		}
	}()
	if opts == nil && s.dialect == dialectPostgres {
		if err := t.db.Exec("SELECT pg_advisory_xact_lock(?)", writersLock).Error; err != nil {
			return true, err
		}
	}
	if err := fn(t); err != nil {
		return true, err
	}
	done = true
	return false, t.db.Commit().Error
}

// recoverWriter frees a SQLite connection whose commit failed (disk full, I/O
// error) and left its transaction open: every later Begin on it would fail.
func (s *Store) recoverWriter(ctx context.Context, err error) error {
	if s.dialect != dialectSQLite || !strings.Contains(err.Error(), "within a transaction") {
		return err
	}
	if rb := s.writer.WithContext(ctx).Exec("ROLLBACK").Error; rb != nil {
		return errors.Join(err, rb)
	}
	return errLeftOpen
}

var errLeftOpen = errors.New("a failed commit had left its transaction open")

// retry repeats try while the database is locked, starting or asks for it.
func (s *Store) retry(ctx context.Context, try func() (repeatable bool, err error)) error {
	started := time.Now()
	for backoff := firstBackoff; ; backoff = min(2*backoff, maxBackoff) {
		repeatable, err := try()
		class := classify(err)
		again := class == again || repeatable && class.againBeforeCommit()
		if !again || time.Since(started) > class.patience() {
			return forPeople(err, class, time.Since(started))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the database: %w", context.Cause(ctx))
		case <-time.After(backoff/2 + rand.N(backoff)):
		}
	}
}

// errorClass says what to do about a database's error.
type errorClass int

const (
	final             errorClass = iota
	again                        // the database undid the transaction
	againIfRepeatable            // safe unless it happened during commit
	unreachable                  // the connection broke or was refused; the same holds
	full                         // no space
)

func (c errorClass) againBeforeCommit() bool { return c == againIfRepeatable || c == unreachable }

func (c errorClass) patience() time.Duration {
	if c == unreachable {
		return outageWait
	}
	return lockWait
}

// classify knows SQLite's result codes (sqlite.org/rescode.html) and the SQLSTATE
// codes of PostgreSQL's documentation, appendix A.
func classify(err error) errorClass {
	if err == nil {
		return final
	}
	if errors.Is(err, errLeftOpen) {
		return againIfRepeatable
	}
	var lite interface{ Code() int }
	if errors.As(err, &lite) {
		switch lite.Code() & 0xff { // without the extension
		case sqlitelib.SQLITE_BUSY, sqlitelib.SQLITE_LOCKED:
			return againIfRepeatable
		case sqlitelib.SQLITE_FULL:
			return full
		}
		return final
	}
	var pg interface{ SQLState() string }
	if errors.As(err, &pg) {
		switch pg.SQLState() {
		case "40001", "40P01": // serialization failure, deadlock
			return again
		case "55P03", "57P01", "57P02", "57P03", "25P03": // lock not available, shut down, crash, starting, idle too long
			return againIfRepeatable
		case "53100": // disk full
			return full
		}
	}
	var network *net.OpError
	if errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, driver.ErrBadConn) {
		return unreachable
	}
	return final
}

// forPeople turns what an operator can mend into a paas.Error.
func forPeople(err error, class errorClass, waited time.Duration) error {
	switch class {
	case full:
		return paas.Errorf(paas.CodeStorageFull, "the disk of the database is full").
			WithHint("free space on the platform's disk, then try again").WithCause(err)
	case unreachable:
		return paas.Errorf(paas.CodeUnavailable, "the database does not answer").
			WithHint("check that PostgreSQL runs, then try again").WithCause(err)
	case again, againIfRepeatable:
		return paas.Errorf(paas.CodeUnavailable, "the database was busy for %s", waited.Round(time.Second)).
			WithHint("another process holds its lock; try again").WithCause(err)
	}
	return err
}
