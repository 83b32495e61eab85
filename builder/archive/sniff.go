package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

const hintFormats = "upload a .zip (also .war, .jar) or a .tar.gz"

// foreign lists what people upload by mistake, by its first bytes.
var foreign = []struct{ magic, name string }{
	{"Rar!\x1a\x07", "a RAR archive"},
	{"7z\xbc\xaf\x27\x1c", "a 7z archive"},
	{"BZh", "a bzip2 file"},
	{"\xfd7zXZ\x00", "an xz file"},
	{"\x28\xb5\x2f\xfd", "a Zstandard file"},
	{"\x1f\x9d", "a compress (.Z) file"},
	{"LZIP", "an lzip file"},
	{"%PDF-", "a PDF document"},
	{"\x89PNG", "a PNG image"},
	{"\xff\xd8\xff", "a JPEG image"},
	{"\x7fELF", "a Linux program"},
	{"MZ", "a Windows program (perhaps a self-extracting archive)"},
	{"#!", "a script"},
	{"PK00PK", "one part of a split zip"},
	{"PK\x07\x08", "one part of a split zip"},
}

// sniff tells the format by content; file names are not trusted.
func sniff(r io.ReaderAt, size int64) (Format, error) {
	if size <= 0 {
		return "", refuse(ruleBroken, hintFormats, "it is empty (0 bytes)")
	}
	head := make([]byte, min(size, 512))
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read archive: first bytes: %w", err)
	}
	switch {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return FormatZip, nil
	case bytes.HasPrefix(head, []byte("PK\x05\x06")):
		return FormatZip, nil // no entries; refused by name later
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		return FormatTarGz, nil
	case len(head) >= 262 && string(head[257:262]) == "ustar":
		return FormatTar, nil
	}
	return "", notAnArchive(r, size, head)
}

func notAnArchive(r io.ReaderAt, size int64, head []byte) error {
	for _, f := range foreign {
		if bytes.HasPrefix(head, []byte(f.magic)) {
			return refuse(ruleMethod, hintFormats, "it looks like %s, not a zip or tar.gz", f.name)
		}
	}
	if looksLikeHTML(head) {
		return refuse(ruleMethod, "the download that made this file probably returned an error page; "+hintFormats,
			"it looks like an HTML page, not a zip or tar.gz")
	}
	if end, err := findEnd(r, size); err == nil && end.count > 0 {
		return refuse(ruleAmbiguous, hintRezip, "there is data before the first entry of the zip (a self-extracting archive?)")
	}
	return refuse(ruleMethod, hintFormats, "it is not a zip or tar.gz: it starts with %q", head[:min(len(head), 16)])
}

func looksLikeHTML(head []byte) bool {
	s := strings.ToLower(strings.TrimSpace(string(head)))
	return strings.HasPrefix(s, "<!doctype") || strings.HasPrefix(s, "<html") || strings.HasPrefix(s, "<?xml")
}
