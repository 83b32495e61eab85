package archive

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

func openBytes(t testing.TB, b []byte, lim Limits) (*Archive, error) {
	t.Helper()
	if lim.TempDir == "" {
		lim.TempDir = t.TempDir()
	}
	a, err := Open(t.Context(), bytes.NewReader(b), int64(len(b)), lim)
	if err == nil {
		t.Cleanup(func() { a.Close() })
	}
	return a, err
}

// wantRefused asserts a refusal by the given rule, with a next step.
func wantRefused(t *testing.T, b []byte, lim Limits, rule string) {
	t.Helper()
	_, err := openBytes(t, b, lim)
	code := paas.CodeOf(err)
	if err == nil || (code != paas.CodeInvalid && code != paas.CodeTooLarge) {
		t.Fatalf("got %v, want a refusal by %q", err, rule)
	}
	e := err.(*paas.Error)
	if !strings.Contains(e.Message, "["+rule+"]") || e.Hint == "" {
		t.Errorf("got %q (hint %q), want rule %q and a hint", e.Message, e.Hint, rule)
	}
}

var badNames = []string{
	"../x", "a/../../x", "a/../x", "..", "../", "/x", "//x", "/", "C:/x", "c:x", "C:\\x", "a\\b", "..\\x", "\\x",
	"a\x00b", "a\nb", "a\x1bb", "a\x7fb", "a\tb", "a\u0085b", "a//b", "a/./b", "./../x", "././x", ".//x", "a/.", "a/..", "...", "a/.../b",
	". .", " ", ".. ", "a/ ", "a/.. /b", "\xff", "caf\xe9.txt", "a\xc0\xafb", "", "a/..", "..//x", "x/../../../../etc/passwd",
	strings.Repeat("a", 256), strings.Repeat("a/", 129) + "x", strings.Repeat("abcdefgh/", 500),
}

func TestOpenZip_HostileNames_Refused(t *testing.T) {
	for _, name := range badNames {
		z := rawZip{entries: []rawEntry{{name: "ok.txt", body: "x"}, {name: name, body: "x"}}}
		if strings.HasSuffix(name, "/") {
			z.entries[1].body = ""
		}
		t.Run(fmt.Sprintf("%.20q", name), func(t *testing.T) { wantRefused(t, z.bytes(), Limits{}, ruleName) })
	}
}

func le32(vs ...uint32) []byte {
	var b []byte
	for _, v := range vs {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

func zip64Extra(vs ...uint64) []byte {
	b := binary.LittleEndian.AppendUint16(nil, extraZip64)
	b = binary.LittleEndian.AppendUint16(b, uint16(8*len(vs)))
	for _, v := range vs {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

func TestOpenZip_Hostile_Refused(t *testing.T) {
	good := one(rawEntry{body: "hello"})
	cases := []struct {
		name string
		zip  []byte
		rule string
	}{
		{"empty zip", rawZip{}.bytes(), ruleBroken},
		{"empty file", nil, ruleBroken},
		{"cut off", good[:len(good)-30], ruleBroken},
		{"last byte missing", good[:len(good)-1], ruleBroken},
		{"local name differs", one(rawEntry{localName: "b.txt", body: "x"}), ruleAmbiguous},
		{"local size differs", one(rawEntry{localSize: 9, body: "x"}), ruleAmbiguous},
		{"local checksum differs", one(rawEntry{localCRC: 9, body: "x"}), ruleAmbiguous},
		{"local method differs", one(rawEntry{localMethod: 8, body: "x"}), ruleAmbiguous},
		{"no local header", rawZip{entries: []rawEntry{{name: "a", body: "x"}, {name: "b", body: "", localOmitted: true}}}.bytes(), ruleBomb},
		{"offset outside", one(rawEntry{offsetAdd: 1 << 30, body: "x"}), ruleMethod},
		{"offset shifted", one(rawEntry{offsetAdd: 1, body: "x"}), ruleBomb},
		{"script before", rawZip{prefix: "#!/bin/sh\n", entries: []rawEntry{{name: "a", body: "x"}}}.bytes(), ruleMethod},
		{"data before", rawZip{prefix: "data", entries: []rawEntry{{name: "a", body: "x"}}}.bytes(), ruleAmbiguous},
		{"gap that hides bytes", zipOf(rawEntry{name: "a", body: "x", gapAfter: "hidden"}, rawEntry{name: "b"}), ruleAmbiguous},
		{"bytes before the end record", rawZip{entries: []rawEntry{{name: "a"}}, beforeEnd: "xxxx"}.bytes(), ruleAmbiguous},
		{"bytes after the end record", rawZip{entries: []rawEntry{{name: "a"}}, afterEnd: "xxxx"}.bytes(), ruleAmbiguous},
		{"two end records", append(bytes.Clone(good), good[len(good)-lenEnd:]...), ruleAmbiguous},
		{"end record in the comment", rawZip{entries: []rawEntry{{name: "a"}}, comment: "xx" + string(good[len(good)-lenEnd:])}.bytes(), ruleAmbiguous},
		{"count too small", rawZip{entries: []rawEntry{{name: "a"}, {name: "b"}}, count: 1}.bytes(), ruleBomb},
		{"count too large", rawZip{entries: []rawEntry{{name: "a"}, {name: "b"}}, count: 3}.bytes(), ruleBomb},
		{"directory size lies", rawZip{entries: []rawEntry{{name: "a"}}, dirSizeAdd: 9}.bytes(), ruleAmbiguous},
		{"encrypted", one(rawEntry{flags: 1, body: "x"}), ruleMethod},
		{"AES", one(rawEntry{method: 99, body: "x"}), ruleMethod},
		{"split", rawZip{entries: []rawEntry{{name: "a"}}, disk: 1}.bytes(), ruleMethod},
		{"entry on another disk", one(rawEntry{disk: 2, body: "x"}), ruleMethod},
		{"LZMA", one(rawEntry{method: 14, body: "x"}), ruleMethod},
		{"method 77", one(rawEntry{method: 77, body: "x"}), ruleMethod},
		{"stored with two sizes", one(rawEntry{size: 5, body: "x"}), ruleAmbiguous},
		{"zip64 field missing", one(rawEntry{deflate: true, size: max32, body: "x"}), ruleMethod},
		{"zip64 field short", one(rawEntry{deflate: true, size: max32, body: "x", extra: zip64Extra()}), ruleMethod},
		{"zip64 field lies", one(rawEntry{body: "x", extra: zip64Extra(7)}), ruleMethod},
		{"zip64 size huge", one(rawEntry{deflate: true, size: max32, body: "x", extra: zip64Extra(1 << 62)}), ruleBomb},
		{"extra field too long", one(rawEntry{body: "x", extra: []byte{9, 9, 200, 0}}), ruleAmbiguous},
		{"descriptor lies", one(rawEntry{flags: flagDescriptor, body: "x", descriptor: le32(1, 2, 3)}), ruleAmbiguous},
		{"descriptor missing", one(rawEntry{flags: flagDescriptor, body: "x"}), ruleAmbiguous},
		{"duplicate", zipOf(rawEntry{name: "a"}, rawEntry{name: "a"}), ruleAmbiguous},
		{"duplicate after cleaning", zipOf(rawEntry{name: "a"}, rawEntry{name: "./a"}), ruleAmbiguous},
		{"case-folded duplicate", zipOf(rawEntry{name: "Makefile"}, rawEntry{name: "makefile"}), ruleAmbiguous},
		{"case-folded folder", zipOf(rawEntry{name: "A/x"}, rawEntry{name: "a/y"}), ruleAmbiguous},
		{"file and folder", zipOf(rawEntry{name: "a"}, rawEntry{name: "a/"}), ruleAmbiguous},
		{"file under file", zipOf(rawEntry{name: "a"}, rawEntry{name: "a/b"}), ruleAmbiguous},
		{"folder with content", one(rawEntry{name: "a/", body: "x"}), ruleAmbiguous},
		{"folder without slash", one(rawEntry{name: "a", mode: 0o040755}), ruleAmbiguous},
		{"device", one(rawEntry{mode: 0o020644}), ruleType},
		{"fifo", one(rawEntry{mode: 0o010644}), ruleType},
		{"link out", zipOf(link("a", "../x")), ruleLink},
		{"link absolute", zipOf(link("a", "/etc/passwd")), ruleLink},
		{"link empty", zipOf(link("a", "")), ruleLink},
		{"link deep out", zipOf(link("a/b/c", "../../../x")), ruleLink},
		{"link through a link", zipOf(link("a", "."), link("a/b", "..")), ruleLink},
		{"link over links", zipOf(rawEntry{name: "d/e/f"}, link("l", "d/e"), link("m", "l/../../..")), ruleLink},
		{"link through what is missing", zipOf(link("m", "none/../../x")), ruleLink},
		{"link circle", zipOf(link("a", "b"), link("b", "a")), ruleLink},
		{"file through a link", zipOf(link("a", "b"), rawEntry{name: "b/"}, rawEntry{name: "a/x"}), ruleLink},
		{"link with a wrong checksum", zipOf(rawEntry{name: "a", body: "b", mode: 0o120777, crc: 7}), ruleBroken},
		{"overlap bomb", overlapBomb(1000, 1<<20), ruleBomb},
		{"ratio bomb", one(rawEntry{body: string(make([]byte, 65<<20)), deflate: true}), ruleBomb},
		{"HTML", []byte("<!DOCTYPE html><html>404"), ruleMethod},
		{"RAR", []byte("Rar!\x1a\x07\x01\x00..."), ruleMethod},
		{"7z", []byte("7z\xbc\xaf\x27\x1c..."), ruleMethod},
		{"text", []byte("console.log(1)"), ruleMethod},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			began := time.Now()
			wantRefused(t, c.zip, Limits{}, c.rule)
			if took := time.Since(began); took > time.Second {
				t.Errorf("refusing took %v, want at most 1s", took)
			}
		})
	}
}

func TestOpenZip_OverLimits_TooLarge(t *testing.T) {
	z := zipOf(rawEntry{name: "a", body: "12345"}, rawEntry{name: "b", body: "12345"}, rawEntry{name: "c/d/e", body: "1"})
	for name, lim := range map[string]Limits{
		"entries": {MaxEntries: 2}, "total": {MaxTotalBytes: 10}, "file": {MaxFileBytes: 4},
	} {
		_, err := openBytes(t, z, lim)
		if paas.CodeOf(err) != paas.CodeTooLarge {
			t.Errorf("%s: got %v, want too_large", name, err)
		}
	}
	wantRefused(t, z, Limits{MaxDepth: 2}, ruleName)
}

// Content that disagrees with the directory is found while reading, never silent.
func TestRead_ContentDisagrees_Error(t *testing.T) {
	long := deflateBytes(strings.Repeat("x", 1000))
	cases := map[string]rawEntry{
		"checksum":          {body: "hello", crc: 1},
		"longer":            {body: strings.Repeat("x", 1000), deflate: true, size: 10},
		"shorter":           {body: "hello", deflate: true, size: 10},
		"not deflate":       {body: "\xff\xff\xff\xff", method: 8},
		"cut deflate":       {body: string(long[:5]), method: 8, size: 5},
		"bytes behind":      {body: string(long) + "tail", method: 8, size: 1000},
		"nothing but claim": {body: "", deflate: true, size: 10},
	}
	for name, e := range cases {
		t.Run(name, func(t *testing.T) {
			a, err := openBytes(t, one(e), Limits{})
			if err != nil {
				t.Fatalf("open: %v", err)
			}
			if err := a.Verify(t.Context()); paas.CodeOf(err) != paas.CodeInvalid {
				t.Errorf("verify: got %v, want invalid", err)
			}
			f, err := a.FS().Open("a.txt")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if b, err := io.ReadAll(f); err == nil {
				t.Errorf("read %q without an error", b)
			}
		})
	}
}

func TestOpenZip_Links_AcceptedIntact(t *testing.T) {
	a, err := openBytes(t, zipOf(
		rawEntry{name: "node_modules/x/cli.js", body: "#!/usr/bin/env node", mode: 0o104755, deflate: true},
		link("node_modules/.bin/x", "../x/cli.js"),
		link("node_modules/self", "."),
		link("dangling", "made/by/the/build"),
		rawEntry{name: "__MACOSX/._package.json", body: "junk"},
		rawEntry{name: "sub/.DS_Store", body: "junk"},
		rawEntry{name: "sub/Icon\r"},
		rawEntry{name: "Notes etc./a ", body: "honest"},
	), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	fsys := a.FS().(fs.ReadLinkFS)
	if got, err := fsys.ReadLink("node_modules/.bin/x"); got != "../x/cli.js" || err != nil {
		t.Errorf("ReadLink: got %q, %v", got, err)
	}
	if b, err := fs.ReadFile(fsys, "node_modules/self/.bin/x"); string(b) != "#!/usr/bin/env node" || err != nil {
		t.Errorf("ReadFile through links: got %q, %v", b, err)
	}
	if st, err := fsys.Lstat("node_modules/x/cli.js"); err != nil || st.Mode() != 0o755 {
		t.Errorf("Lstat: got %v, %v, want 0755 without set-id", st.Mode(), err)
	}
	if _, err := fs.Stat(fsys, "dangling"); err == nil {
		t.Error("Stat of a dangling link: got nil, want an error")
	}
	if want := []string{"__MACOSX/._package.json", "sub/.DS_Store", "sub/Icon\r"}; fmt.Sprint(a.Dropped()) != fmt.Sprint(want) {
		t.Errorf("Dropped: got %q, want %q", a.Dropped(), want)
	}
	if err := a.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestArchive_FS_PassesFSTest(t *testing.T) {
	a, err := openBytes(t, goZip(t, map[string]string{"app/a.js": "1", "app/lib/b.js": strings.Repeat("b", 99999), "app/empty": ""}), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(a.FS(), "app/a.js", "app/lib/b.js", "app/empty"); err != nil {
		t.Error(err)
	}
	if got := a.TopFolder(); got != "app" {
		t.Errorf("TopFolder: got %q, want app", got)
	}
	if a.Format() != FormatZip || len(a.Entries()) != 5 {
		t.Errorf("got %s with %v", a.Format(), a.Entries())
	}
}

// goZip packs with the standard library: data descriptors, deflate.
func goZip(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, body := range files {
		f, err := w.Create(name)
		if err == nil {
			_, err = io.WriteString(f, body)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.SetComment("made by a test"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Go's own samples come from 7-Zip, Info-ZIP, macOS, Windows, WinRAR and WinZip.
func TestOpenZip_GoSamples(t *testing.T) {
	refused := map[string]string{
		"comment-truncated.zip": ruleAmbiguous, "test-baddirsz.zip": ruleAmbiguous, "test-badbase.zip": ruleAmbiguous,
		"test-prefix.zip": ruleMethod, "test-trailing-junk.zip": ruleAmbiguous, "readme.notzip": ruleMethod,
		"readme.zip":  ruleAmbiguous, // a byte behind the comment
		"dupdir.zip":  ruleAmbiguous, // a/b is a file and a folder
		"symlink.zip": ruleLink,      // leads to ../target
	}
	files, _ := filepath.Glob(filepath.Join(goRoot(t), "src/archive/zip/testdata/*zip"))
	if len(files) < 25 {
		t.Fatalf("only %d samples in GOROOT", len(files))
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if rule := refused[filepath.Base(file)]; rule != "" {
				wantRefused(t, b, Limits{}, rule)
				return
			}
			a, err := openBytes(t, b, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Verify(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func goRoot(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestOpenZip_ZipInZip_Accepted(t *testing.T) {
	inner := goZip(t, map[string]string{"x": "y"})
	a, err := openBytes(t, zipOf(rawEntry{name: "lib/inner.jar", body: string(inner)}), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := fs.ReadFile(a.FS(), "lib/inner.jar"); !bytes.Equal(got, inner) {
		t.Error("the stored jar differs")
	}
}

func TestTreeDigest_ContentOnly(t *testing.T) {
	digest := func(match func(string) bool, files map[string]string) string {
		a, err := openBytes(t, goZip(t, files), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return a.TreeDigest(match)
	}
	lock := func(p string) bool { return p == "package-lock.json" }
	one := map[string]string{"package-lock.json": "{}", "index.js": "1"}
	two := map[string]string{"package-lock.json": "{}", "index.js": "2"}
	if digest(nil, one) == digest(nil, two) {
		t.Error("whole tree: same digest for different content")
	}
	if digest(lock, one) != digest(lock, two) {
		t.Error("subset: another file changes the digest")
	}
}

func TestModTime_DiffersByChecksumAndStaysInRange(t *testing.T) {
	seen := map[time.Time]uint32{}
	for _, crc := range []uint32{0, 1, 2, 3_699_999_999, 3_700_000_000, 3_700_000_001, max32} {
		at := ModTime(Entry{CRC32: crc})
		if at.Year() < 1980 || at.Year() > 2100 {
			t.Errorf("crc %d: %v is out of range", crc, at)
		}
		if other, ok := seen[at]; ok {
			t.Errorf("crc %d and %d have one time %v", crc, other, at)
		}
		seen[at] = crc
	}
}

func TestOpen_ContextEnds_ReturnsCause(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := fmt.Errorf("deadline of the check")
	cancel(why)
	b := goZip(t, map[string]string{"a": "b"})
	if _, err := Open(ctx, bytes.NewReader(b), int64(len(b)), Limits{}); !errors.Is(err, why) {
		t.Errorf("got %v, want %v", err, why)
	}
}
