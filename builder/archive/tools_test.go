package archive

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Archives made by the tools that people have must be accepted (rule A-7), with
// names, modes, links and content as they are on disk.
func TestOpen_MadeByTools_Accepted(t *testing.T) {
	src := t.TempDir()
	for name, mode := range map[string]fs.FileMode{"package.json": 0o644, "bin/run.sh": 0o755, "déjà/世界.txt": 0o644, "node_modules/x/cli.js": 0o755} {
		if err := os.MkdirAll(filepath.Join(src, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(src, name), []byte(name+"\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(src, "node_modules/.bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../x/cli.js", filepath.Join(src, "node_modules/.bin/x")); err != nil {
		t.Fatal(err)
	}
	const pyStream = `
import sys, os, zipfile
class Pipe:
    def __init__(s, f): s.f = f
    def write(s, b): return s.f.write(b)
    def flush(s): s.f.flush()
with open(sys.argv[1], "wb") as f, zipfile.ZipFile(Pipe(f), "w", zipfile.ZIP_DEFLATED) as z:
    for d, _, names in os.walk("."):
        for n in names:
            p = os.path.join(d, n)
            with open(p, "rb") as i, z.open(zipfile.ZipInfo(p[2:]), "w", force_zip64=n.endswith(".sh")) as o: o.write(i.read())
`
	tools := []struct {
		name  string
		links bool
		argv  []string // OUT is replaced
	}{
		{"zip", true, []string{"zip", "-q", "-r", "-y", "OUT", "."}},
		{"zip without links", false, []string{"zip", "-q", "-r", "OUT", "."}},
		{"zip to a pipe", false, []string{"sh", "-c", "zip -q -r - . | cat > OUT"}},
		{"zip zip64", true, []string{"zip", "-q", "-r", "-y", "-fz", "OUT", "."}},
		{"zip in the C locale", false, []string{"env", "LC_ALL=C", "zip", "-q", "-r", "OUT", "."}},
		{"zip stored, with comment", false, []string{"sh", "-c", "echo hello | zip -q -0 -z -r OUT ."}},
		{"jar", false, []string{"jar", "cf", "OUT", "."}},
		{"python zipfile", false, []string{"python3", "-m", "zipfile", "-c", "OUT", "."}},
		{"python zipfile to a pipe", false, []string{"python3", "-c", pyStream, "OUT"}},
		{"python tarfile", true, []string{"python3", "-m", "tarfile", "-c", "OUT", "."}},
		{"tar.gz", true, []string{"tar", "czf", "OUT", "-C", ".", "."}},
		{"tar ustar", true, []string{"tar", "czf", "OUT", "--format=ustar", "package.json", "bin", "déjà", "node_modules"}},
		{"tar pax", true, []string{"tar", "czf", "OUT", "--format=pax", "."}},
		{"tar v7", true, []string{"tar", "cf", "OUT", "--format=gnu", "-H", "oldgnu", "."}},
	}
	for _, tool := range tools {
		t.Run(tool.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "app.archive")
			if tool.argv[0] == "zip" || tool.argv[0] == "env" || tool.argv[0] == "sh" {
				out += ".zip"
			}
			argv := append([]string(nil), tool.argv...)
			for i := range argv {
				argv[i] = strings.ReplaceAll(argv[i], "OUT", out)
			}
			cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
			cmd.Dir = src
			cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8") // or jar cannot read the names
			if msg, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %v: %s", argv, err, msg)
			}
			b, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			a, err := openBytes(t, b, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			checkTree(t, a, src, tool.links)
		})
	}
}

func checkTree(t *testing.T, a *Archive, src string, links bool) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(src), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		want, err := os.ReadFile(filepath.Join(src, name))
		if err != nil {
			return err
		}
		if got, err := fs.ReadFile(a.FS(), name); string(got) != string(want) || err != nil {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
		if st, err := fs.Lstat(a.FS(), name); links && (err != nil || st.Mode().Type() != d.Type()) {
			t.Errorf("%s: got %v, %v, want type %v", name, st, err, d.Type())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
