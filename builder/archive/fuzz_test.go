package archive

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"io/fs"
	"sort"
	"strings"
	"testing"

	"github.com/slipway-paas/slipway/internal/paas"
)

var fuzzLimits = Limits{MaxEntries: 1000, MaxTotalBytes: 8 << 20, MaxFileBytes: 4 << 20}

// Whatever is accepted can be walked and read (or says why not), and the standard
// library's reader sees the same names.
func FuzzOpenZip(f *testing.F) {
	for _, b := range [][]byte{
		zipOf(rawEntry{name: "a/b", body: "hello", deflate: true}, link("l", "a/b"), rawEntry{name: "__MACOSX/x"}),
		goZip(f, map[string]string{"x": "1", "y/z": "22"}), overlapBomb(3, 100), rawZip{}.bytes(),
		one(rawEntry{body: "x", extra: zip64Extra(1, 1)}), zipOf(link("a", "."), link("a/b", "..")),
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a := fuzzOpen(t, b)
		if a == nil || a.Format() != FormatZip {
			return
		}
		zr, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatalf("accepted, but the standard library says %v", err)
		}
		var got, want []string
		for _, e := range a.Entries() {
			if !e.Implied {
				got = append(got, e.Path)
			}
		}
		seen := map[string]bool{}
		for _, zf := range zr.File {
			name := strings.TrimSuffix(strings.TrimPrefix(zf.Name, "./"), "/")
			if name != "" && name != "." && !isMacJunk(name) && !seen[name] {
				want, seen[name] = append(want, name), true
			}
		}
		got = append(got, a.Dropped()...)
		for _, zf := range zr.File {
			if name := strings.TrimSuffix(strings.TrimPrefix(zf.Name, "./"), "/"); isMacJunk(name) {
				want = append(want, name)
			}
		}
		sort.Strings(got)
		sort.Strings(want)
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Fatalf("names: got %q, the standard library reads %q", got, want)
		}
	})
}

func FuzzOpenTarGz(f *testing.F) {
	plain := tarOf(f, reg("a/b", 600), sym("l", "a/b"), hard("h", "a/b"), tar.Header{Name: "d/", Typeflag: tar.TypeDir})
	f.Add(gz(plain))
	f.Add(plain)
	f.Add(gz(tarOf(f, sym("a", "."), sym("a/b", ".."))))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzOpen(t, b)
		// Most mutations of a gzip stream end in its checksum: try the tar inside, too.
		fuzzOpen(t, gz(b))
	})
}

func fuzzOpen(t *testing.T, b []byte) *Archive {
	a, err := openBytes(t, b, fuzzLimits)
	if err != nil {
		if code := paas.CodeOf(err); code != paas.CodeInvalid && code != paas.CodeTooLarge {
			t.Fatalf("refused with %s: %v", code, err)
		}
		return nil
	}
	for _, e := range a.Entries() {
		if !fs.ValidPath(e.Path) {
			t.Fatalf("accepted the path %q", e.Path)
		}
		if end, how := a.tree.resolve(e.Path); how != "" || strings.HasPrefix(end, "..") {
			t.Fatalf("%q resolves to %q (%s)", e.Path, end, how)
		}
	}
	if err := a.Verify(t.Context()); err != nil && paas.CodeOf(err) != paas.CodeInvalid {
		t.Fatalf("verify: %v", err)
	}
	return a
}
