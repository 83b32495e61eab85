package atomicfile_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/slipway-paas/slipway/internal/atomicfile"
)

func TestWrite_ReplacesContentAndModeAndLeavesNothingElse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, want := range []struct {
		content string
		mode    os.FileMode
	}{{"first, longer", 0o644}, {"second", 0o600}} {
		if err := atomicfile.Write(path, []byte(want.content), want.mode); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil || string(b) != want.content {
			t.Errorf("content %q %v, want %q", b, err, want.content)
		}
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want.mode {
			t.Errorf("mode %v %v, want %v", st.Mode(), err, want.mode)
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("folder holds %v %v, want the file alone", list, err)
	}
}

func TestWrite_CannotReplace_LeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.MkdirAll(filepath.Join(path, "inside"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(path, []byte("x"), 0o600); err == nil {
		t.Error("a folder was replaced by a file")
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("folder holds %v %v, want the old entry alone", list, err)
	}
}
