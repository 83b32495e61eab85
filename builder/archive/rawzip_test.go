package archive

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
)

// rawEntry is one entry of a zip written byte by byte; the Local fields override
// what the local header says.
type rawEntry struct {
	name         string
	body         string
	deflate      bool
	flags        uint16
	method       uint16 // used when not 0
	mode         uint32 // Unix
	disk         uint16
	crc          uint32 // overrides in both places when not 0
	size         uint32 // overrides in both places when not 0
	localName    string
	localMethod  uint16
	localCRC     uint32
	localSize    uint32
	extra        []byte
	descriptor   []byte
	gapAfter     string
	reuseOffset  bool // the local header of the entry before
	offsetAdd    uint32
	localOmitted bool
}

// rawZip is a zip written byte by byte.
type rawZip struct {
	entries    []rawEntry
	prefix     string
	beforeEnd  string
	comment    string
	afterEnd   string
	count      int // overrides when not 0
	disk       uint16
	dirSizeAdd int
}

func (z rawZip) bytes() []byte {
	var out, dir bytes.Buffer
	w := func(b *bytes.Buffer, vs ...any) {
		for _, v := range vs {
			_ = binary.Write(b, binary.LittleEndian, v)
		}
	}
	out.WriteString(z.prefix)
	at := uint32(0)
	for _, e := range z.entries {
		data, method := []byte(e.body), uint16(0)
		if e.deflate {
			method, data = 8, deflateBytes(e.body)
		}
		if e.method != 0 {
			method = e.method
		}
		crc, size := crc32.ChecksumIEEE([]byte(e.body)), uint32(len(e.body))
		crc, size = or(e.crc, crc), or(e.size, size)
		if !e.reuseOffset {
			at = uint32(out.Len())
		}
		if !e.reuseOffset && !e.localOmitted {
			name := e.name
			if e.localName != "" {
				name = e.localName
			}
			w(&out, []byte(sigLocal), uint16(20), e.flags, or(e.localMethod, method), uint32(0))
			if e.flags&flagDescriptor != 0 {
				w(&out, uint32(0), uint32(0), uint32(0))
			} else {
				w(&out, or(e.localCRC, crc), uint32(len(data)), or(e.localSize, size))
			}
			w(&out, uint16(len(name)), uint16(len(e.extra)), []byte(name), e.extra, data, e.descriptor, []byte(e.gapAfter))
		}
		w(&dir, []byte(sigDir), uint16(3<<8|20), uint16(20), e.flags, method, uint32(0), crc, uint32(len(data)), size,
			uint16(len(e.name)), uint16(len(e.extra)), uint16(0), e.disk, uint16(0), e.mode<<16, at+e.offsetAdd, []byte(e.name), e.extra)
	}
	dirAt := out.Len()
	out.Write(dir.Bytes())
	out.WriteString(z.beforeEnd)
	count := len(z.entries)
	if z.count != 0 {
		count = z.count
	}
	w(&out, []byte(sigEnd), z.disk, z.disk, uint16(count), uint16(count), uint32(dir.Len()+z.dirSizeAdd), uint32(dirAt),
		uint16(len(z.comment)), []byte(z.comment), []byte(z.afterEnd))
	return out.Bytes()
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v != zero {
		return v
	}
	return otherwise
}

func deflateBytes(s string) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.Bytes()
}

// overlapBomb is a zip whose n entries all claim the same packed bytes.
func overlapBomb(n, size int) []byte {
	body := string(make([]byte, size))
	z := rawZip{}
	for i := range n {
		z.entries = append(z.entries, rawEntry{name: "f" + string(rune('a'+i%26)) + string(rune('0'+i/26%10)) + string(rune('A'+i/260)), body: body, deflate: true, reuseOffset: i > 0})
	}
	return z.bytes()
}

func one(e rawEntry) []byte {
	e.name = or(e.name, "a.txt")
	return rawZip{entries: []rawEntry{e}}.bytes()
}

func link(name, target string) rawEntry {
	return rawEntry{name: name, body: target, mode: 0o120777}
}

func zipOf(entries ...rawEntry) []byte { return rawZip{entries: entries}.bytes() }
