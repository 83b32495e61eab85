package base

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestHostSources_FollowTheHostsMirrors(t *testing.T) {
	for _, c := range []struct {
		name, release, list, deb822 string
		want                        []string
	}{
		{"deb822 of our suite", "bookworm", "",
			"Types: deb\n# a comment: x\nURIs: http://m.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\n\nTypes: deb\nURIs: http://m.example/sec\nSuites: bookworm-security\n",
			[]string{"deb http://m.example/debian bookworm main", "deb http://m.example/debian bookworm-updates main", "deb http://m.example/sec bookworm-security main"}},
		{"newer host", "trixie", "deb [signed-by=/k.gpg arch=amd64] https://m.example/debian trixie main\ndeb-src https://m.example/debian trixie main\n", "",
			[]string{"deb https://m.example/debian bookworm main"}},
		{"other repositories are not Debian's", "bookworm", "deb https://x.example/node nodistro main\ndeb https://x.example/pg bookworm-pgdg main\n", "", nil},
		{"nothing configured", "", "deb http://m.example/debian bookworm main\n", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write := func(name, text string) {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Mkdir(filepath.Join(dir, "sources.list.d"), 0o755); err != nil {
				t.Fatal(err)
			}
			write("sources.list", c.list)
			write("sources.list.d/debian.sources", c.deb822)
			write("os-release", "VERSION_CODENAME="+c.release+"\n")
			if got := hostSources(dir, filepath.Join(dir, "os-release")); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestSupported_FollowsTheCalendar(t *testing.T) {
	versions := []string{"20.1.0", "21.0.0", "22.0.0", "22.1.0", "24.0.0", "25.0.0", "26.0.0"}
	for day, want := range map[string][]int{"2026-04-30": {20, 22, 24}, "2026-05-02": {22, 24}, "2026-11-01": {22, 24, 26}} {
		now, err := time.Parse(time.DateOnly, day)
		if err != nil {
			t.Fatal(err)
		}
		if got := supported(versions, now); !reflect.DeepEqual(got, want) {
			t.Errorf("on %s: %v, want %v", day, got, want)
		}
	}
}

func TestRepack_StaysInsideItsFolder(t *testing.T) {
	var tgz bytes.Buffer
	zw := gzip.NewWriter(&tgz)
	tw := tar.NewWriter(zw)
	for _, name := range []string{"package/bin/x.js", "package/../../etc/passwd", "/package/lib/y.js"} {
		if err := tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600, Size: 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte("1")); err != nil {
			t.Fatal(err)
		}
	}
	tw.Close()
	zw.Close()
	pack := func() string {
		var out bytes.Buffer
		links := map[string]string{"usr/local/bin/x": "/lib/m/bin/x.js"}
		if err := repack(bytes.NewReader(tgz.Bytes()), &out, links, func(n string) string { return "lib/m/" + n }); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	layer := pack()
	if layer != pack() {
		t.Error("the same package made two layers")
	}
	var got []string
	for r := tar.NewReader(strings.NewReader(layer)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %o", h.Name, h.Mode))
	}
	want := "lib/ 755,lib/m/ 755,lib/m/bin/ 755,lib/m/bin/x.js 755,lib/m/passwd 644,lib/m/lib/ 755,lib/m/lib/y.js 644,usr/ 755,usr/local/ 755,usr/local/bin/ 755,usr/local/bin/x 777"
	if strings.Join(got, ",") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ","), want)
	}
}

// A kill in the middle of mmdebstrap may leave mounts of this machine's own
// folders: what is behind them must stay, and the next start must work.
func TestNew_RemovesHalfMadeFolder_WithMounts_NotWhatIsBehind(t *testing.T) {
	dir, behind := t.TempDir(), t.TempDir()
	file := filepath.Join(behind, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(dir, "root-1"+halfMade)
	for name, flags := range map[string]uintptr{"shm": 0, "sys": unix.MS_RDONLY} {
		at := filepath.Join(part, "root", name)
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(behind, at, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
		if flags != 0 {
			if err := unix.Mount("", at, "", unix.MS_BIND|unix.MS_REMOUNT|flags, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := New(Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(part); !os.IsNotExist(err) {
		t.Errorf("the half made folder is still there (%v)", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("what was mounted there is gone: %v", err)
	}
}

func TestNew_RemovesHalfMadeFiles(t *testing.T) {
	dir := t.TempDir()
	part := filepath.Join(dir, "node-1.tar"+halfMade)
	if err := os.WriteFile(part, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := New(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(part); !os.IsNotExist(err) {
		t.Errorf("the half made file is still there (%v)", err)
	}
	unlock, err := b.lock(t.Context(), "node-2")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	alive := filepath.Join(dir, "node-2.tar"+halfMade)
	if err := os.WriteFile(alive, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(alive); err != nil {
		t.Errorf("a file being made was removed: %v", err)
	}
}
