package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"compress/bzip2"

	"github.com/slipway-paas/slipway/internal/paas"
)

// tarOf packs headers with bodies of zeros, plain.
func tarOf(t testing.TB, hs ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range hs {
		if h.Mode == 0 && h.Typeflag != tar.TypeXGlobalHeader {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.CopyN(w, zeros{}, h.Size); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func gz(b []byte) []byte {
	var out bytes.Buffer
	w, _ := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

func reg(name string, size int64) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, Size: size}
}

func sym(name, target string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}
}

func hard(name, target string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}
}

func TestOpenTar_Hostile_Refused(t *testing.T) {
	fine := tarOf(t, reg("a", 5))
	huge := bytes.Clone(fine)
	copy(huge[124:136], "77777777777\x00") // 8 GiB
	fixChecksum(huge)
	negative := bytes.Clone(fine)
	copy(negative[124:136], bytes.Repeat([]byte{0xff}, 12))
	fixChecksum(negative)
	sparse := tarOf(t, tar.Header{Name: "a", Typeflag: tar.TypeReg, Size: 5, Format: tar.FormatGNU})
	sparse[156] = 'S'
	fixChecksum(sparse)
	paxBomb := tarOf(t, reg("a", 2<<20))
	paxBomb[156] = 'x' // what was a file is a header of 2 MiB now
	fixChecksum(paxBomb)
	cases := []struct {
		name string
		tar  []byte
		rule string
	}{
		{"device", tarOf(t, tar.Header{Name: "d", Typeflag: tar.TypeChar}), ruleType},
		{"block device", tarOf(t, tar.Header{Name: "d", Typeflag: tar.TypeBlock}), ruleType},
		{"fifo", tarOf(t, tar.Header{Name: "d", Typeflag: tar.TypeFifo}), ruleType},
		{"contiguous", tarOf(t, tar.Header{Name: "d", Typeflag: tar.TypeCont}), ruleType},
		{"hard link out", tarOf(t, hard("a", "../../etc/passwd")), ruleLink},
		{"hard link absolute", tarOf(t, hard("a", "/etc/passwd")), ruleLink},
		{"hard link to nothing", tarOf(t, hard("a", "b")), ruleLink},
		{"hard link to itself", tarOf(t, hard("a", "a")), ruleLink},
		{"hard link to a folder", tarOf(t, tar.Header{Name: "b/", Typeflag: tar.TypeDir}, hard("a", "b")), ruleLink},
		{"hard link to a link that then leads out", tarOf(t, sym("d/e/l", "../../x"), hard("l", "d/e/l")), ruleLink},
		{"link out", tarOf(t, sym("a", "../x")), ruleLink},
		{"two-step link", tarOf(t, sym("a", "."), sym("a/b", "..")), ruleLink},
		{"file through a link", tarOf(t, sym("a", "/tmp"), reg("a/x", 1)), ruleLink},
		{"file through an inside link", tarOf(t, sym("a", "b"), reg("a/x", 1)), ruleLink},
		{"duplicate", tarOf(t, reg("a", 1), reg("a", 2)), ruleAmbiguous},
		{"link over file", tarOf(t, reg("a", 1), sym("a", "b")), ruleAmbiguous},
		{"case-folded", tarOf(t, reg("a", 1), reg("A", 2)), ruleAmbiguous},
		{"file named like a folder", tarOf(t, tar.Header{Name: "x/", Typeflag: tar.TypeSymlink, Linkname: "y"}), ruleAmbiguous},
		{"size too large", huge, ruleBomb},
		{"negative size", negative, ruleBroken},
		{"GNU sparse", sparse, ruleType},
		{"global path", tarOf(t, tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"path": "x"}}, reg("a", 1)), ruleAmbiguous},
		{"PAX header bomb", paxBomb, ruleBomb},
		{"long name", tarOf(t, reg(strings.Repeat("abcdefgh/", 600)+"x", 1)), ruleName},
		{"data behind the end", append(bytes.Clone(fine), tarOf(t, reg("b", 1))...), ruleAmbiguous},
		{"empty", tarOf(t), ruleMethod},
	}
	for _, name := range badNames {
		if !strings.Contains(name, "\x00") && !strings.HasSuffix(name, "/") && name != "" {
			cases = append(cases, struct {
				name string
				tar  []byte
				rule string
			}{fmt.Sprintf("name %.20q", name), tarOf(t, reg(name, 0)), ruleName})
		}
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { wantRefused(t, c.tar, Limits{}, c.rule) })
		if c.name != "empty" {
			t.Run("gz "+c.name, func(t *testing.T) { wantRefused(t, gz(c.tar), Limits{}, c.rule) })
		}
	}
}

func fixChecksum(block []byte) {
	copy(block[148:156], "        ")
	sum := 0
	for _, c := range block[:512] {
		sum += int(c)
	}
	copy(block[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

func TestOpenTarGz_Damaged_Refused(t *testing.T) {
	z := gz(tarOf(t, reg("a", 5000)))
	wrong := bytes.Clone(z)
	wrong[len(wrong)-5] ^= 1
	for name, b := range map[string][]byte{
		"cut in the middle": z[:len(z)/2], "last byte missing": z[:len(z)-1], "only a magic": z[:2],
		"garbage behind": append(bytes.Clone(z), "garbage"...), "checksum": wrong, "gzip of text": gz([]byte(strings.Repeat("no tar ", 200))),
		"plain tar cut": tarOf(t, reg("a", 5000))[:3072],
	} {
		t.Run(name, func(t *testing.T) { wantRefused(t, b, Limits{}, ruleBroken) })
	}
	wantRefused(t, gz(tarOf(t)), Limits{}, ruleBroken)
}

func TestOpenTarGz_Bombs_TooLarge(t *testing.T) {
	ratio := gz(tarOf(t, reg("a", 65<<20)))
	links := []tar.Header{reg("a", 1<<20)}
	for i := range 100 {
		links = append(links, hard(fmt.Sprint("l", i), "a"))
	}
	cases := map[string]struct {
		tar []byte
		lim Limits
	}{
		"ratio":               {ratio, Limits{}},
		"padding":             {gz(append(tarOf(t, reg("a", 1)), make([]byte, 20<<20)...)), Limits{}},
		"headers":             {gz(bigHeaders(t, 70)), Limits{MaxTotalBytes: 1 << 20}},
		"hard links multiply": {gz(tarOf(t, links...)), Limits{MaxTotalBytes: 50 << 20}},
		"count":               {gz(tarOf(t, links...)), Limits{MaxEntries: 50}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := openBytes(t, c.tar, c.lim); paas.CodeOf(err) != paas.CodeTooLarge {
				t.Errorf("got %v, want too_large", err)
			}
		})
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if m.HeapInuse > 256<<20 {
		t.Errorf("heap in use %d MiB after bombs", m.HeapInuse>>20)
	}
}

func bigHeaders(t *testing.T, n int) []byte {
	var hs []tar.Header
	for i := range n {
		hs = append(hs, tar.Header{Name: fmt.Sprint(i), Typeflag: tar.TypeReg, PAXRecords: map[string]string{"X.y": strings.Repeat("x", 1<<20-100)}})
	}
	return tarOf(t, hs...)
}

func TestOpenTar_Honest_AcceptedIntact(t *testing.T) {
	plain := tarOf(t,
		tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "a commit"}},
		tar.Header{Name: "./", Typeflag: tar.TypeDir},
		tar.Header{Name: "./bin/", Typeflag: tar.TypeDir},
		tar.Header{Name: "./bin/run", Typeflag: tar.TypeReg, Mode: 0o4755, Size: 70000, Uid: 1 << 31},
		sym("./run", "bin/run"), hard("./copy", "./bin/run"), reg("./.DS_Store", 3),
	)
	two := append(gz(plain[:1024]), gz(plain[1024:])...)
	for name, b := range map[string][]byte{"tar": plain, "tar.gz": gz(plain), "two gzip members": two} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a, err := openBytes(t, b, Limits{TempDir: dir})
			if err != nil {
				t.Fatal(err)
			}
			if left, _ := os.ReadDir(dir); len(left) != 0 {
				t.Errorf("TempDir holds %v, want an unlinked file only", left)
			}
			for _, file := range []string{"bin/run", "run", "copy"} {
				if b, err := fs.ReadFile(a.FS(), file); len(b) != 70000 || err != nil {
					t.Errorf("%s: got %d bytes, %v", file, len(b), err)
				}
			}
			if st, _ := fs.Stat(a.FS(), "copy"); st.Mode() != 0o755 {
				t.Errorf("mode: got %v, want 0755", st.Mode())
			}
			if err := a.Verify(t.Context()); err != nil {
				t.Error(err)
			}
			for range 2 {
				if err := a.Close(); err != nil {
					t.Errorf("Close twice: %v", err)
				}
			}
		})
	}
}

// Go's tar samples: none may panic or hang, and those with only files, folders and
// inside links open.
func TestOpenTar_GoSamples(t *testing.T) {
	accepted := map[string]bool{
		"gnu.tar": true, "star.tar": true, "v7.tar": true, "pax-global-records.tar": false, "trailing-slash.tar": true,
		"hardlink.tar": true, "xattrs.tar": true, "gnu-utf8.tar": true, "ustar-file-reg.tar": true, "nil-uid.tar": true, "file-and-dir.tar": true,
		"sparse-formats.tar": false, "gnu-not-utf8.tar": false, "ustar-file-devs.tar": true, "pax-sparse-big.tar.base64": false,
		"gnu-sparse-big.tar.base64": false, "neg-size.tar.base64": false, "pax-bad-hdr-large.tar.bz2": false, "gnu-sparse-many-zeros.tar.bz2": false,
		"pax-nul-path.tar": false,
	}
	files, _ := filepath.Glob(filepath.Join(goRoot(t), "src/archive/tar/testdata/*.tar*"))
	if len(files) < 35 {
		t.Fatalf("only %d samples in GOROOT", len(files))
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if strings.HasSuffix(file, ".base64") {
				b, err = base64.StdEncoding.DecodeString(string(b))
			} else if strings.HasSuffix(file, ".bz2") {
				b, err = io.ReadAll(bzip2.NewReader(bytes.NewReader(b)))
			}
			if err != nil {
				t.Fatal(err)
			}
			a, err := openBytes(t, gz(b), Limits{})
			if want, ok := accepted[filepath.Base(file)]; ok && want != (err == nil) {
				t.Errorf("accepted: got %v (%v), want %v", err == nil, err, want)
			}
			if err == nil {
				err = a.Verify(t.Context())
			}
			if code := paas.CodeOf(err); code != "" && code != paas.CodeInvalid && code != paas.CodeTooLarge {
				t.Errorf("got %v, want a refusal or none", err)
			}
		})
	}
}
