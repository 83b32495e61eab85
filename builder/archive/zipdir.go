package archive

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strings"
	"unicode/utf8"
)

// Record layouts: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.7 to 4.3.16.
const (
	sigLocal    = "PK\x03\x04"
	sigDir      = "PK\x01\x02"
	sigEnd      = "PK\x05\x06"
	sigEnd64    = "PK\x06\x06"
	sigLocator  = "PK\x06\x07"
	sigDataDesc = "PK\x07\x08"

	lenLocal   = 30
	lenDir     = 46
	lenEnd     = 22
	lenEnd64   = 56
	lenLocator = 20

	max16 = 0xffff
	max32 = 0xffffffff

	extraZip64       = 0x0001
	extraUnicodePath = 0x7075 // Info-ZIP
)

var le = binary.LittleEndian

// zipEnd is what the end records say.
type zipEnd struct {
	count     uint64
	dirSize   int64
	dirOffset int64
	recordsAt int64 // where the end records begin: the directory must end there
}

// findEnd reads the end record, and the zip64 ones if there are any.
func findEnd(r io.ReaderAt, size int64) (zipEnd, error) {
	tail := make([]byte, min(size, lenEnd+max16))
	if _, err := r.ReadAt(tail, size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return zipEnd{}, readError(err, "the end record")
	}
	// Every reader searches backwards. The last signature in the file must be the
	// record, and its comment must end the file; then all readers find the same.
	at := bytes.LastIndex(tail, []byte(sigEnd))
	if at < 0 || at+lenEnd > len(tail) {
		return zipEnd{}, refuse(ruleBroken, hintUpload, "the zip has no end record, so it is cut off (%d bytes arrived)", size)
	}
	rec := tail[at:]
	if comment := int(le.Uint16(rec[20:])); at+lenEnd+comment != len(tail) {
		return zipEnd{}, refuse(ruleAmbiguous, hintRezip,
			"%d bytes follow the end record, its comment has %d", len(rec)-lenEnd, comment)
	}
	end := zipEnd{
		count:     uint64(le.Uint16(rec[10:])),
		dirSize:   int64(le.Uint32(rec[12:])),
		dirOffset: int64(le.Uint32(rec[16:])),
		recordsAt: size - int64(len(rec)),
	}
	if end.recordsAt >= lenLocator {
		locator := make([]byte, lenLocator)
		if _, err := r.ReadAt(locator, end.recordsAt-lenLocator); err != nil {
			return zipEnd{}, readError(err, "the zip64 locator")
		}
		if string(locator[:4]) == sigLocator {
			return findEnd64(r, end, rec, locator)
		}
	}
	if le.Uint16(rec[4:]) != 0 || le.Uint16(rec[6:]) != 0 || le.Uint16(rec[8:]) != le.Uint16(rec[10:]) {
		return zipEnd{}, refuse(ruleMethod, hintRezip, "it is one part of a zip split over several files")
	}
	return end, nil
}

// findEnd64 reads the zip64 end record that locator points to and holds it
// against the plain one in rec.
func findEnd64(r io.ReaderAt, end zipEnd, rec, locator []byte) (zipEnd, error) {
	if le.Uint32(locator[4:]) != 0 || le.Uint32(locator[16:]) > 1 {
		return zipEnd{}, refuse(ruleMethod, hintRezip, "it is one part of a zip split over several files")
	}
	at := end.recordsAt - lenLocator - lenEnd64
	rec64 := make([]byte, lenEnd64)
	if at >= 0 {
		if _, err := r.ReadAt(rec64, at); err != nil {
			return zipEnd{}, readError(err, "the zip64 end record")
		}
	}
	if string(rec64[:4]) != sigEnd64 || le.Uint64(locator[8:]) != uint64(at) || le.Uint64(rec64[4:]) != lenEnd64-12 {
		return zipEnd{}, refuse(ruleAmbiguous, hintRezip, "the zip64 locator does not point to a zip64 end record right before it")
	}
	if le.Uint32(rec64[16:]) != 0 || le.Uint32(rec64[20:]) != 0 || le.Uint64(rec64[24:]) != le.Uint64(rec64[32:]) {
		return zipEnd{}, refuse(ruleMethod, hintRezip, "it is one part of a zip split over several files")
	}
	count, size, offset := le.Uint64(rec64[32:]), le.Uint64(rec64[40:]), le.Uint64(rec64[48:])
	if !agrees(end.count, count, max16) || !agrees(uint64(end.dirSize), size, max32) ||
		!agrees(uint64(end.dirOffset), offset, max32) {
		return zipEnd{}, refuse(ruleAmbiguous, hintRezip, "the zip64 end record and the end record disagree")
	}
	if size > 1<<62 || offset > 1<<62 {
		return zipEnd{}, refuse(ruleAmbiguous, hintRezip, "the zip64 end record says that the directory has %d bytes at %d", size, offset)
	}
	return zipEnd{count: count, dirSize: int64(size), dirOffset: int64(offset), recordsAt: at}, nil
}

// agrees holds a plain field against its zip64 twin.
func agrees(plain, wide, sentinel uint64) bool { return plain == sentinel || plain == wide }

// header is one entry of the central directory.
type header struct {
	raw          string // name as written
	name         string // raw, or its UTF-8 form from the Unicode path field
	flags        uint16
	method       uint16
	crc          uint32
	compressed   uint64
	uncompressed uint64
	offset       uint64 // of the local header
	host         byte   // system that made it: 3 Unix, 19 macOS
	attributes   uint32
}

// readDirectory reads the whole central directory.
func readDirectory(ctx context.Context, r io.ReaderAt, end zipEnd, lim Limits) ([]header, error) {
	if end.dirOffset > end.recordsAt || end.dirOffset+end.dirSize != end.recordsAt {
		return nil, refuse(ruleAmbiguous, hintRezip,
			"the directory should be %d bytes at %d and end at %d: bytes are missing, or there are foreign ones before or behind it",
			end.dirSize, end.dirOffset, end.recordsAt)
	}
	if end.count > uint64(lim.MaxEntries) {
		return nil, tooLarge("it has %d entries, %d at most", end.count, lim.MaxEntries)
	}
	if end.count == 0 && end.dirSize == 0 {
		return nil, refuse(ruleBroken, "put the app's files into the archive", "it is an empty zip: it holds no files")
	}
	src := &io.LimitedReader{R: io.NewSectionReader(r, end.dirOffset, end.dirSize), N: end.dirSize}
	br := bufio.NewReaderSize(src, 256<<10)
	headers := make([]header, 0, min(end.count, uint64(end.dirSize)/lenDir+1))
	nameBytes := 0
	for n := uint64(0); n < end.count; n++ {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		h, err := readHeader(br, n)
		if err != nil {
			return nil, err
		}
		if nameBytes += len(h.raw); nameBytes > maxNameBytes {
			return nil, tooLarge("its names have more than %d MiB", maxNameBytes>>20)
		}
		headers = append(headers, h)
	}
	if _, err := br.Peek(1); err == nil {
		return nil, refuse(ruleBomb, hintRezip, "the directory holds more than the %d entries that its end record counts", end.count)
	}
	return headers, nil
}

func readHeader(br *bufio.Reader, n uint64) (header, error) {
	var b [lenDir]byte
	if _, err := io.ReadFull(br, b[:]); err != nil {
		return header{}, readDirError(err, n)
	}
	if string(b[:4]) != sigDir {
		return header{}, refuse(ruleAmbiguous, hintRezip, "entry %d of the directory does not start with the signature of one", n+1)
	}
	nameLen, extraLen, commentLen := int(le.Uint16(b[28:])), int(le.Uint16(b[30:])), int(le.Uint16(b[32:]))
	rest := make([]byte, nameLen+extraLen)
	if _, err := io.ReadFull(br, rest); err != nil {
		return header{}, readDirError(err, n)
	}
	if _, err := br.Discard(commentLen); err != nil {
		return header{}, readDirError(err, n)
	}
	h := header{
		raw:          string(rest[:nameLen]),
		flags:        le.Uint16(b[8:]),
		method:       le.Uint16(b[10:]),
		crc:          le.Uint32(b[16:]),
		compressed:   uint64(le.Uint32(b[20:])),
		uncompressed: uint64(le.Uint32(b[24:])),
		offset:       uint64(le.Uint32(b[42:])),
		host:         b[5],
		attributes:   le.Uint32(b[38:]),
	}
	if disk := le.Uint16(b[34:]); disk != 0 && disk != max16 {
		return header{}, refuseEntry(ruleMethod, h.raw, hintRezip, "it lies on disk %d of a zip split over several files", disk)
	}
	if err := h.readExtra(rest[nameLen:]); err != nil {
		return header{}, err
	}
	return h, nil
}

func readDirError(err error, n uint64) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return refuse(ruleBomb, hintRezip, "the directory ends in its entry %d: it holds fewer than its end record counts", n+1)
	}
	return fmt.Errorf("read archive: directory: %w", err)
}

// readExtra takes the zip64 sizes and the Unicode name from the extra fields.
func (h *header) readExtra(extra []byte) error {
	h.name = h.raw
	seen64 := false
	err := eachExtra(h.raw, extra, func(id uint16, data []byte) error {
		switch id {
		case extraZip64:
			if seen64 {
				return refuseEntry(ruleAmbiguous, h.raw, hintRezip, "it has two zip64 fields")
			}
			seen64 = true
			return h.readZip64(data)
		case extraUnicodePath:
			return h.readUnicodePath(data)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !seen64 && (h.compressed == max32 || h.uncompressed == max32 || h.offset == max32) {
		return refuseEntry(ruleMethod, h.raw, hintRezip, "its sizes should be in a zip64 field, which is missing")
	}
	return nil
}

// eachExtra walks extra fields. Up to three stray bytes are zipalign's padding.
func eachExtra(name string, extra []byte, visit func(id uint16, data []byte) error) error {
	for len(extra) >= 4 {
		id, n := le.Uint16(extra), int(le.Uint16(extra[2:]))
		if n > len(extra)-4 {
			return refuseEntry(ruleAmbiguous, name, hintRezip, "its extra field %#04x is longer than the header", id)
		}
		if err := visit(id, extra[4:4+n]); err != nil {
			return err
		}
		extra = extra[4+n:]
	}
	return nil
}

// readZip64 fills the fields that the plain header leaves to zip64. Readers differ
// in whether they read fields that nothing asks for, so those must agree.
func (h *header) readZip64(data []byte) error {
	asked := h.uncompressed == max32 || h.compressed == max32 || h.offset == max32
	for _, field := range []*uint64{&h.uncompressed, &h.compressed, &h.offset} {
		if asked && *field != max32 {
			continue
		}
		if len(data) < 8 {
			if asked {
				return refuseEntry(ruleMethod, h.raw, hintRezip, "its zip64 field is too short")
			}
			return nil
		}
		wide := le.Uint64(data)
		data = data[8:]
		if !asked && wide != *field {
			return refuseEntry(ruleMethod, h.raw, hintRezip, "its zip64 field says %d where the header says %d", wide, *field)
		}
		*field = wide
	}
	return nil
}

// readUnicodePath reads Info-ZIP's UTF-8 name (APPNOTE 4.6.9). It counts only
// where the plain name is not UTF-8; else the two must agree, for some readers
// use one and some the other.
func (h *header) readUnicodePath(data []byte) error {
	if len(data) < 5 || data[0] != 1 || le.Uint32(data[1:]) != crc32.ChecksumIEEE([]byte(h.raw)) {
		return nil // not meant for this name; readers skip it
	}
	name := string(data[5:])
	if utf8.ValidString(h.raw) && name != h.raw {
		return refuseEntry(ruleAmbiguous, h.raw, hintRezip, "it has a second name, %s", quoteName(name))
	}
	h.name = name
	return nil
}

// mode tells type and permissions; Unix ones count only from makers that have
// them. Modes are masked to 0755 and 0644 (rule A-3).
func (h *header) mode() (fs.FileMode, error) {
	const (
		hostUnix, hostMac            = 3, 19
		typeMask, typeDir            = 0o170000, 0o040000
		typeRegular, typeLink        = 0o100000, 0o120000
		executable            uint32 = 0o111
	)
	unix := uint32(0)
	if h.host == hostUnix || h.host == hostMac {
		unix = h.attributes >> 16
	}
	isDir := strings.HasSuffix(h.name, "/")
	kind := unix & typeMask
	switch {
	case isDir && kind == typeLink, isDir && h.uncompressed != 0:
		return 0, refuseEntry(ruleAmbiguous, h.raw, hintRezip, "it is named like a folder but has content")
	case isDir:
		return fs.ModeDir | 0o755, nil
	case kind == typeDir:
		return 0, refuseEntry(ruleAmbiguous, h.raw, hintRezip, "it is a folder, but its name does not end in a slash")
	case kind == typeLink:
		return fs.ModeSymlink | 0o777, nil
	case kind != 0 && kind != typeRegular:
		return 0, refuseEntry(ruleType, h.raw, "leave it out", "it is a device, pipe or socket (mode %#o)", unix)
	case unix&executable != 0:
		return 0o755, nil
	}
	return 0o644, nil
}
