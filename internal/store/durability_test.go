package store

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/internal/seal"
)

// childDSN tells the test binary to be the child of
// TestSQLite_KilledWhileCommitting_KeepsWhatItAcknowledged.
const childDSN = "SLIPWAY_STORETEST_CHILD_DSN"

// testDigest is an archive digest for content that does not matter.
func testDigest(i int) string { return fmt.Sprintf("sha256:%064x", i) }

func commitUntilKilled(dsn string) int {
	ctx := context.Background()
	s, err := Open(ctx, dsn, seal.New(os.Getenv("SLIPWAY_STORETEST_CHILD_KEY")))
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	for i := 0; ; i++ {
		d, _, err := s.AcceptDeploy(ctx, paas.NewDeploy{App: "shop", CreateApp: true,
			Archive: paas.Archive{Digest: testDigest(i), SizeBytes: 1, Key: testDigest(i)}})
		if err != nil {
			fmt.Println("error", err)
			return 1
		}
		fmt.Println(d.ID)
	}
}

func TestSQLite_KilledWhileCommitting_KeepsWhatItAcknowledged(t *testing.T) {
	dir := t.TempDir()
	dsn, key := "sqlite:"+filepath.Join(dir, "slipway.db"), filepath.Join(dir, "secret.key")
	var acked []string
	for round := range 5 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childDSN+"="+dsn, "SLIPWAY_STORETEST_CHILD_KEY="+key)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if strings.HasPrefix(lines.Text(), "error") {
				t.Fatal(lines.Text())
			}
			acked = append(acked, lines.Text())
			if n == 20+7*round {
				_ = cmd.Process.Kill() // what it still prints was acknowledged as well
			}
		}
		_ = cmd.Wait() // killed
		checkAcked(t, database{dsn, func() *seal.Keeper { return seal.New(key) }}, acked)
	}
}

func checkAcked(t *testing.T, d database, acked []string) {
	t.Helper()
	s := d.open(t, nil)
	var verdict string
	if err := s.reader.Raw("PRAGMA integrity_check").Scan(&verdict).Error; err != nil || verdict != "ok" {
		t.Fatalf("integrity_check = %q, %v", verdict, err)
	}
	var broken int
	if err := s.reader.Raw("SELECT count(*) FROM pragma_foreign_key_check").Scan(&broken).Error; err != nil || broken != 0 {
		t.Fatalf("%d rows refer to nothing, %v", broken, err)
	}
	var ids []string
	if err := s.reader.Raw("SELECT d.id FROM deployments d JOIN builds b ON b.id = d.build_id").Scan(&ids).Error; err != nil {
		t.Fatal(err)
	}
	have := make(map[string]bool, len(ids))
	for _, id := range ids {
		have[id] = true
	}
	for _, id := range acked {
		if !have[id] {
			t.Errorf("deployment %s was acknowledged and is lost (%d acknowledged, %d there)", id, len(acked), len(ids))
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSQLite_IsDurableAndPrivate(t *testing.T) {
	d := newSQLite(t)
	s := d.open(t, nil)
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"} {
		var got string
		if err := s.writer.Raw("PRAGMA " + pragma).Scan(&got).Error; err != nil || got != want {
			t.Errorf("%s = %q, %v; want %q", pragma, got, err, want)
		}
	}
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(strings.TrimPrefix(d.dsn, "sqlite:")), "*.db*"))
	if len(files) == 0 {
		t.Fatal("no database file")
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", f, info.Mode(), err)
		}
	}
	if err := s.reader.Exec("DELETE FROM events").Error; err == nil {
		t.Error("a reading connection wrote")
	}
}
