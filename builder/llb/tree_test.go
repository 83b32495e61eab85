package llb

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/tonistiigi/fsutil"

	"github.com/slipway-paas/slipway/builder/archive"
	"github.com/slipway-paas/slipway/buildpacks/plan"
)

type fakeTree struct {
	entries []archive.Entry
	fsys    fs.FS
}

func (f fakeTree) Entries() []archive.Entry { return append([]archive.Entry{}, f.entries...) }
func (f fakeTree) FS() fs.FS                { return f.fsys }

func file(name string, crc uint32) archive.Entry {
	return archive.Entry{Path: name, Mode: 0o644, Size: 1, CRC32: crc}
}

func folder(name string) archive.Entry { return archive.Entry{Path: name, Mode: fs.ModeDir | 0o755} }

func TestTree_WalksInTheOrderOfTheSync(t *testing.T) {
	src := fakeTree{entries: []archive.Entry{folder(".git"), file(".git/x", 1), folder("a"), file("a-b", 1), file("a.js", 1), file("a/b", 1), folder("node_modules"), file("node_modules/m", 1)}}
	p := &plan.Plan{App: plan.App{Exclude: []string{".git"}, Vendored: "node_modules"}}
	tr := newTree(src, AppMatch(p))
	var got []string
	err := tr.Walk(t.Context(), "/", func(name string, _ fs.DirEntry, err error) error {
		if len(got) > 0 && fsutil.ComparePath(got[len(got)-1], name) >= 0 {
			t.Errorf("%q after %q", name, got[len(got)-1])
		}
		got = append(got, name)
		return err
	})
	if want := "u01 u01/app u01/app/a u01/app/a/b u01/app/a-b u01/app/a.js"; err != nil || strings.Join(got, " ") != want {
		t.Errorf("walked %s (%v), want %s", strings.Join(got, " "), err, want)
	}
}

func TestTree_OpenNeverFailsButIsRemembered(t *testing.T) {
	tr := newTree(fakeTree{entries: []archive.Entry{file("gone", 1)}, fsys: fstest.MapFS{}}, func(string) bool { return true })
	r, err := tr.Open("u01/app/gone")
	if err != nil {
		t.Fatalf("Open failed: %v; the sync would make an empty file of it", err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, fs.ErrNotExist) || !errors.Is(tr.failure(), fs.ErrNotExist) {
		t.Errorf("read says %v, the tree %v; want that it does not exist", err, tr.failure())
	}
}

func TestFileTime_TellsContentsApartAndLiesInThePast(t *testing.T) {
	seen := map[time.Time]uint32{}
	for _, crc := range []uint32{0, 1, 757_382_399, 757_382_400, 757_382_401, 1_514_764_800, 1<<32 - 1} {
		at := fileTime(file("x", crc))
		if other, ok := seen[at]; ok {
			t.Errorf("checksums %d and %d have the same time", other, crc)
		}
		seen[at] = crc
		if at.Year() < 2000 || at.Year() > 2025 {
			t.Errorf("checksum %d has the time %s", crc, at)
		}
	}
}

func TestExplain_TellsWhoseErrorItIs(t *testing.T) {
	lim := Limits{MemoryBytes: 256 << 20}
	for _, c := range []struct {
		name, err, tail, code, text string
	}{
		{"exit code", "x did not complete successfully: exit code: 7", "boom", FailStep, "exit code 7"},
		{"killed", "x did not complete successfully: exit code: 137", "", FailMemory, "256 MiB"},
		{"heap", "x did not complete successfully: exit code: 134", "FATAL: JavaScript heap out of memory", FailMemory, "256 MiB"},
		{"network", "x did not complete successfully: exit code: 1", "npm error code ECONNREFUSED", FailRegistry, "exit code 1"},
		{"ours", "failed to mount", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := explain(errors.New(c.err), StepDependencies, "npm ci", []string{c.tail}, lim)
			var step *StepError
			if errors.As(err, &step) != (c.code != "") {
				t.Fatalf("got %v", err)
			}
			if step != nil && (step.Failure.Code != c.code || !strings.Contains(step.Failure.Message, c.text)) {
				t.Errorf("got %+v, want %s with %q", step.Failure, c.code, c.text)
			}
		})
	}
}
