package store

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/internal/seal"
)

const canary = "canary-7f3a91c2-value"

// plantCanaries puts the canary into everything that takes secrets.
func plantCanaries(t *testing.T, s *Store) {
	t.Helper()
	_, _, err := s.AcceptDeploy(t.Context(), paas.NewDeploy{App: "shop", CreateApp: true,
		Archive:  paas.Archive{Digest: testDigest(1), SizeBytes: 1, Key: "k"},
		Manifest: []byte(`{"notes":"` + canary + `"}`), Deployment: []byte(`{"environment":{"A":"` + canary + `"}}`)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetEnv(t.Context(), "shop", map[string]string{"A": canary, "B": "other"}, nil, "ann"); err != nil {
		t.Fatal(err)
	}
	b, err := s.ClaimBuild(t.Context(), "w", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	r := paas.BuildResult{ImageRef: "i", Type: paas.TypeWeb, UserEnv: map[string]string{"C": canary}}
	if _, err := s.FinishBuild(t.Context(), b.ID, b.Attempt, r, ""); err != nil {
		t.Fatal(err)
	}
}

// rawBytes is all that the database holds: its files, or every row as text.
func rawBytes(t *testing.T, d database, s *Store) []byte {
	t.Helper()
	var out bytes.Buffer
	if s.dialect == dialectSQLite {
		files, _ := filepath.Glob(filepath.Join(filepath.Dir(strings.TrimPrefix(d.dsn, "sqlite:")), "*.db*"))
		for _, f := range files {
			raw, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			out.Write(raw)
		}
		return out.Bytes()
	}
	var tables, rows []string
	if err := s.reader.Raw("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").Scan(&tables).Error; err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		if err := s.reader.Raw("SELECT x::text FROM " + table + " x").Scan(&rows).Error; err != nil {
			t.Fatal(err)
		}
		out.WriteString(strings.Join(rows, "\n"))
	}
	return out.Bytes()
}

func TestDatabase_HoldsNoSecretInTheOpen(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database) {
		s := d.open(t, nil)
		plantCanaries(t, s)
		raw := rawBytes(t, d, s)
		if !bytes.Contains(raw, []byte("env.changed")) {
			t.Fatal("the search does not see the rows")
		}
		for _, form := range []string{canary, hex.EncodeToString([]byte(canary)), base64.StdEncoding.EncodeToString([]byte(canary))[:20]} {
			if bytes.Contains(raw, []byte(form)) {
				t.Errorf("the database holds the canary as %s", form)
			}
		}
		env, err := d.open(t, nil).Env(t.Context(), "shop")
		if err != nil || len(env) != 3 || string(env[0].Value) != canary {
			t.Fatalf("Env = %d variables, %v", len(env), err)
		}
	})
}

func TestEnv_SwappedCiphertexts_AreRefused(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database) {
		for what, swap := range map[string]string{
			"two names":    "UPDATE config_vars SET sealed = (SELECT o.sealed FROM config_vars o WHERE o.name = 'B' AND o.version = config_vars.version AND o.app_id = config_vars.app_id) WHERE name = 'A'",
			"two versions": "UPDATE config_vars SET sealed = (SELECT o.sealed FROM config_vars o WHERE o.name = 'A' AND o.version = 1 AND o.app_id = config_vars.app_id) WHERE name = 'A' AND version = 2",
			"documents":    "UPDATE config_vars SET sealed = (SELECT b.deployment FROM builds b WHERE b.app_id = config_vars.app_id) WHERE name = 'A'",
		} {
			t.Run(what, func(t *testing.T) {
				s := d.open(t, nil)
				if _, err := s.App(t.Context(), "shop"); err != nil {
					plantCanaries(t, s)
				}
				var before []configVarRow
				if err := s.writer.Find(&before).Error; err != nil {
					t.Fatal(err)
				}
				if err := s.writer.Exec(swap).Error; err != nil {
					t.Fatal(err)
				}
				_, err := s.Env(t.Context(), "shop")
				if !errors.Is(err, seal.ErrRefused) || strings.Contains(err.Error(), canary) {
					t.Fatalf("Env = %v; want ErrRefused", err)
				}
				if _, err := s.Work(t.Context()); !errors.Is(err, seal.ErrRefused) {
					t.Fatalf("Work = %v; want ErrRefused", err)
				}
				for _, row := range before {
					if err := s.writer.Model(&configVarRow{}).Where("app_id = ? AND version = ? AND name = ?", row.AppID, row.Version, row.Name).Update("sealed", row.Sealed).Error; err != nil {
						t.Fatal(err)
					}
				}
			})
		}
	})
}

func TestOpen_KeyLostOrWrong_SaysWhatToDo(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database) {
		plain := d.open(t, nil)
		lost := database{d.dsn, newKeyFile(t)}
		if s, err := Open(t.Context(), lost.dsn, lost.sealer()); err != nil {
			t.Fatalf("without secrets a new key is fine: %v", err)
		} else if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		plantCanaries(t, plain)
		if _, err := Open(t.Context(), d.dsn, lost.sealer()); err == nil || !strings.Contains(err.Error(), "put the right key file back") {
			t.Fatalf("Open with another key = %v", err)
		}
		if _, err := Open(t.Context(), d.dsn, newKeyFile(t)()); err == nil || !strings.Contains(err.Error(), "is missing, but the database holds secrets") {
			t.Fatalf("Open without the key file = %v", err)
		}
	})
}
