package router

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// savedTable is the file: the table's bytes and their checksum.
type savedTable struct {
	SHA256  string          `json:"sha256"`
	SavedAt time.Time       `json:"savedAt"`
	Table   json.RawMessage `json:"table"`
}

// saver writes the newest table to disk, at most once a second.
type saver struct {
	path string
	next chan *paas.Table // holds the newest unsaved one
}

func newSaver(dir string) *saver {
	return &saver{path: filepath.Join(dir, "table.json"), next: make(chan *paas.Table, 1)}
}

// save notes t as the one to write. Only one goroutine may call it at a time.
func (s *saver) save(t *paas.Table) {
	select {
	case <-s.next:
	default:
	}
	s.next <- t
}

// run writes until ctx ends, and then what is still unsaved.
func (s *saver) run(ctx context.Context, log *slog.Logger) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		select {
		case <-ctx.Done():
			select {
			case t := <-s.next:
				s.report(log, t)
			default:
			}
			return
		case t := <-s.next:
			s.report(log, t)
		}
		pause.Reset(time.Second)
	}
}

func (s *saver) report(log *slog.Logger, t *paas.Table) {
	if err := writeSaved(s.path, t, time.Now()); err != nil {
		log.Error("table not saved: a restart without the control plane would use an older one", "err", err)
	}
}

func writeSaved(path string, t *paas.Table, now time.Time) error {
	b, err := json.Marshal(t)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	b, err = json.Marshal(savedTable{SHA256: hex.EncodeToString(sum[:]), SavedAt: now.UTC(), Table: b})
	if err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := writeSynced(tmp, b); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// readSaved returns the saved table, or nil when there is none.
func readSaved(path string) (*paas.Table, time.Time, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, time.Time{}, nil
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	return decodeSaved(b)
}

func decodeSaved(b []byte) (*paas.Table, time.Time, error) {
	var s savedTable
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, time.Time{}, err
	}
	if sum := sha256.Sum256(s.Table); s.SHA256 != hex.EncodeToString(sum[:]) {
		return nil, time.Time{}, fmt.Errorf("checksum of %d bytes does not match", len(s.Table))
	}
	var t paas.Table
	if err := json.Unmarshal(s.Table, &t); err != nil {
		return nil, time.Time{}, err
	}
	return &t, s.SavedAt, nil
}

// loadSaved makes the saved table the current one. A bad file costs nothing but
// the wait for the control plane.
func (r *Router) loadSaved() {
	src, at, err := readSaved(r.saver.path)
	if err != nil {
		r.log.Warn("saved table ignored", "path", r.saver.path, "err", err)
		return
	}
	if src == nil || src.Version == 0 {
		return
	}
	r.swap(*src, true)
	r.log.Info("table loaded from disk", "epoch", src.Epoch, "version", src.Version, "apps", len(src.Apps), "savedAt", at)
}
