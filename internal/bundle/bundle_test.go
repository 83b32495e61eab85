package bundle_test

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/internal/bundle"
	"github.com/slipway-paas/slipway/internal/paas"
)

var epoch2001 = time.Unix(1e9, 0)

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func pack(t *testing.T, dir string) ([]byte, bundle.Result) {
	t.Helper()
	var buf bytes.Buffer
	res, err := bundle.Zip(&buf, dir)
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), res
}

func names(t *testing.T, b []byte) []string {
	t.Helper()
	zr, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range zr.File {
		out = append(out, f.Name)
	}
	return out
}

func TestZip_HonoursIgnoreFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		".gitignore":            "*.log\n/dist/\n!keep.log\n",
		".slipwayignore":        "docs/\n!dist/\n",
		"server.js":             "1",
		"a.log":                 "1",
		"keep.log":              "1",
		"dist/app.js":           "1",
		"docs/x.md":             "1",
		"sub/.gitignore":        "secret\n",
		"sub/secret":            "1",
		"sub/open":              "1",
		".git/config":           "1",
		"package-lock.json":     "{}",
		"node_modules/x/i.js":   "1",
		"vendor/node_modules/y": "1",
	})
	b, res := pack(t, dir)
	want := []string{".gitignore", ".slipwayignore", "dist/app.js", "keep.log", "package-lock.json", "server.js", "sub/.gitignore", "sub/open", "vendor/node_modules/y"}
	if got := names(t, b); !slices.Equal(got, want) {
		t.Errorf("packed %q\nwant   %q", got, want)
	}
	wantOut := []bundle.LeftOut{
		{Path: ".git/", Rule: "always"}, {Path: "a.log", Rule: ".gitignore"}, {Path: "docs/", Rule: ".slipwayignore"},
		{Path: "node_modules/", Rule: "installed from the lock file"}, {Path: "sub/secret", Rule: ".gitignore"},
	}
	if !slices.Equal(res.LeftOut, wantOut) {
		t.Errorf("left out %v\nwant     %v", res.LeftOut, wantOut)
	}
}

func TestZip_SameFolderSameBytes_AnotherTimeAndPlace(t *testing.T) {
	files := map[string]string{"b": "2", "a": "1", "c/d": "3"}
	one, two := t.TempDir(), t.TempDir()
	write(t, one, files)
	write(t, two, files)
	if err := os.Chtimes(filepath.Join(two, "a"), epoch2001, epoch2001); err != nil {
		t.Fatal(err)
	}
	b1, _ := pack(t, one)
	b2, _ := pack(t, two)
	if !bytes.Equal(b1, b2) {
		t.Error("the same content gave two archives")
	}
}

func TestZip_KeepsLinksAndTheExecutableBit(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"run.sh": "#!/bin/sh\n"})
	if err := os.Chmod(filepath.Join(dir, "run.sh"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("run.sh", filepath.Join(dir, "start")); err != nil {
		t.Fatal(err)
	}
	b, _ := pack(t, dir)
	zr, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if got := zr.File[0].Mode().Perm(); got != 0o755 {
		t.Errorf("mode of run.sh is %o, want 755", got)
	}
	if zr.File[1].Mode()&os.ModeSymlink == 0 {
		t.Error("the link became a file")
	}
	rc, err := zr.File[1].Open()
	if err != nil {
		t.Fatal(err)
	}
	if target, _ := io.ReadAll(rc); string(target) != "run.sh" {
		t.Errorf("link target %q", target)
	}
}

func TestZip_NothingToPack_IsTheUsersError(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{".slipwayignore": "*\n"})
	_, err := bundle.Zip(io.Discard, dir)
	if paas.CodeOf(err) != paas.CodeInvalid {
		t.Errorf("got %v, want an invalid error", err)
	}
}
