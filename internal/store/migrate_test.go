package store

import (
	"strings"
	"sync"
	"testing"
	"testing/fstest"
)

// landed are the digests of migrations that databases out there have applied.
// Append to it; a test that fails here means that history was edited.
var landed = []string{
	"5beed85bbfb73eb9af70b840eb77864955df4569d23813a2d3fe77db708d08b0",
}

func TestMigrations_ThatLanded_AreNotEdited(t *testing.T) {
	if len(migrations) != len(landed) {
		t.Fatalf("%d migrations, %d digests: append the new one's to landed: %q", len(migrations), len(landed), migrations[len(migrations)-1].digest)
	}
	for i, m := range migrations {
		if m.digest != landed[i] {
			t.Errorf("migration %d (%s) was edited: write another one instead (digest %s, landed as %s)", m.version, m.name, m.digest, landed[i])
		}
	}
}

func TestOpen_SchemaThatIsNewerOrOfAnother_IsRefused(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database) {
		s := d.open(t, nil)
		if err := s.writer.Exec("INSERT INTO schema_migrations (version, name, digest, applied_at) VALUES (99, 'future', 'x', 0)").Error; err != nil {
			t.Fatal(err)
		}
		_, err := Open(t.Context(), d.dsn, d.sealer())
		if err == nil || !strings.Contains(err.Error(), "the database has schema version 99") {
			t.Fatalf("Open of a newer schema = %v", err)
		}
		if err := s.writer.Exec("DELETE FROM schema_migrations WHERE version = 99").Error; err != nil {
			t.Fatal(err)
		}
		if err := s.writer.Exec("UPDATE schema_migrations SET digest = 'edited'").Error; err != nil {
			t.Fatal(err)
		}
		_, err = Open(t.Context(), d.dsn, d.sealer())
		if err == nil || !strings.Contains(err.Error(), "was made by another slipway") {
			t.Fatalf("Open of an edited schema = %v", err)
		}
	})
}

func TestOpen_8ServersAtOnce_MigrateOnce(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				s, err := Open(t.Context(), d.dsn, d.sealer())
				if err != nil {
					t.Error(err)
					return
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		var n int
		if err := d.open(t, nil).reader.Raw("SELECT count(*) FROM schema_migrations").Scan(&n).Error; err != nil || n != len(migrations) {
			t.Fatalf("%d migrations recorded, %v; want %d", n, err, len(migrations))
		}
	})
}

func TestMigrate_FailsHalfWay_LeavesNothingOfThatStep(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database) {
		s := d.open(t, nil)
		bad := append(migrations[:len(migrations):len(migrations)], mustMigrations(fstest.MapFS{
			"migrations/0001_bad.sql": {Data: []byte("CREATE TABLE half (id {{id}});\nCREATE NONSENSE;\n")},
		})[0])
		bad[len(bad)-1].version = len(bad)
		if err := s.migrate(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "(bad)") {
			t.Fatalf("migrate = %v; want an error that names the step", err)
		}
		if err := s.reader.Exec("SELECT * FROM half").Error; err == nil {
			t.Fatal("half of the migration stayed")
		}
		if err := s.migrate(t.Context(), migrations); err != nil {
			t.Fatal(err)
		}
	})
}

func TestOpen_AddressThatIsNone_SaysWhatToUse(t *testing.T) {
	for _, dsn := range []string{"", "mysql://user:canary@host/db", "sqlite:", "/path"} {
		_, err := Open(t.Context(), dsn, newKeyFile(t)())
		if err == nil || !strings.Contains(err.Error(), "use sqlite:/path/to/file or postgres://") || strings.Contains(err.Error(), "canary") {
			t.Errorf("Open(%q) = %v", dsn, err)
		}
	}
}
