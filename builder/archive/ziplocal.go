package archive

import (
	"context"
	"io"
	"sort"
)

const (
	flagEncrypted  = 1 << 0
	flagDescriptor = 1 << 3
	flagPatched    = 1 << 5
	flagStrong     = 1 << 6
	flagMasked     = 1 << 13

	methodStore   = 0
	methodDeflate = 8
	methodAES     = 99
)

// methodNames are for messages only: APPNOTE 4.4.5.
var methodNames = map[uint16]string{
	1: "Shrink", 2: "Reduce", 3: "Reduce", 4: "Reduce", 5: "Reduce", 6: "Implode", 9: "Deflate64", 12: "bzip2",
	14: "LZMA", 16: "CMPSC", 18: "TERSE", 19: "LZ77", 93: "Zstandard", 94: "MP3", 95: "XZ", 96: "JPEG", 97: "WavPack", 98: "PPMd",
}

// checkMethod refuses what we cannot read, by name (rule A-6).
func checkMethod(h *header) error {
	switch {
	case h.flags&(flagEncrypted|flagStrong|flagMasked) != 0 || h.method == methodAES:
		return refuseEntry(ruleMethod, h.raw, "zip it without a password; give secrets with slipway env set", "it is encrypted")
	case h.flags&flagPatched != 0:
		return refuseEntry(ruleMethod, h.raw, hintRezip, "it holds patch data")
	case h.method == methodStore && h.compressed != h.uncompressed:
		return refuseEntry(ruleAmbiguous, h.raw, hintRezip, "it is stored, but has %d bytes packed and %d unpacked", h.compressed, h.uncompressed)
	case h.method == methodStore, h.method == methodDeflate:
		return nil
	}
	name := methodNames[h.method]
	if name == "" {
		name = "unknown"
	}
	return refuseEntry(ruleMethod, h.raw, "zip it with the method Deflate, every tool's default",
		"it is compressed with method %d (%s); store and deflate are read", h.method, name)
}

// checkRanges sorts headers by place and refuses overlaps from the directory
// alone, before any local header is read (rule A-4).
func checkRanges(headers []header, dirOffset int64) error {
	sort.SliceStable(headers, func(i, j int) bool { return headers[i].offset < headers[j].offset })
	limit := uint64(dirOffset)
	for i := range headers {
		h := &headers[i]
		if h.offset > limit || h.compressed > limit {
			return refuseEntry(ruleMethod, h.raw, hintRezip, "it lies outside the file (%d bytes at %d, entries end at %d)", h.compressed, h.offset, limit)
		}
		next := limit
		if i+1 < len(headers) {
			next = headers[i+1].offset
		}
		if h.offset+lenLocal+uint64(len(h.raw))+h.compressed > next {
			return refuseEntry(ruleBomb, h.raw, hintRezip, "it overlaps what follows it (%d packed bytes at %d, the next begins at %d)", h.compressed, h.offset, next)
		}
	}
	return nil
}

// checkLocals reads the local header of every entry, in file order, holds it
// against the directory and returns the place of each content. The entries must
// lie one behind the other from the first byte to the directory: a gap would
// hide entries that streaming readers see.
func checkLocals(ctx context.Context, r io.ReaderAt, headers []header, dirOffset int64) ([]int64, error) {
	offsets := make([]int64, len(headers))
	if first := headers[0].offset; first != 0 {
		return nil, refuse(ruleAmbiguous, hintRezip, "%d bytes come before the first entry", first)
	}
	for i := range headers {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		next := uint64(dirOffset)
		if i+1 < len(headers) {
			next = headers[i+1].offset
		}
		at, err := checkLocal(r, &headers[i], int64(next))
		if err != nil {
			return nil, err
		}
		offsets[i] = at
	}
	return offsets, nil
}

// checkLocal checks one entry that must end exactly at next.
func checkLocal(r io.ReaderAt, h *header, next int64) (contentAt int64, err error) {
	// One read takes header, name and usually all extra fields; remote archives
	// are read by ranges.
	buf := make([]byte, min(int64(lenLocal+len(h.raw)+64), next-int64(h.offset)))
	if _, err := r.ReadAt(buf, int64(h.offset)); err != nil {
		return 0, readError(err, "a local header")
	}
	if string(buf[:4]) != sigLocal {
		return 0, refuseEntry(ruleAmbiguous, h.raw, hintRezip, "there is no local header at %d, where the directory says", h.offset)
	}
	nameLen, extraLen := int(le.Uint16(buf[26:])), int(le.Uint16(buf[28:]))
	contentAt = int64(h.offset) + lenLocal + int64(nameLen) + int64(extraLen)
	if nameLen != len(h.raw) || string(buf[lenLocal:lenLocal+nameLen]) != h.raw {
		return 0, refuseEntry(ruleAmbiguous, h.raw, hintRezip, "the local header has another name")
	}
	if contentAt+int64(h.compressed) > next {
		return 0, refuseEntry(ruleBomb, h.raw, hintRezip, "it overlaps what follows it at %d", next)
	}
	extra := make([]byte, extraLen)
	if have := buf[lenLocal+nameLen:]; len(have) >= extraLen {
		copy(extra, have)
	} else if _, err := r.ReadAt(extra, contentAt-int64(extraLen)); err != nil {
		return 0, readError(err, "a local header")
	}
	if err := compareLocal(buf, extra, h); err != nil {
		return 0, err
	}
	return contentAt, checkDescriptor(r, h, contentAt+int64(h.compressed), next)
}

// compareLocal holds the fields of a local header against the directory's.
func compareLocal(buf, extra []byte, h *header) error {
	flags, method := le.Uint16(buf[6:]), le.Uint16(buf[8:])
	if method != h.method {
		return refuseEntry(ruleAmbiguous, h.raw, hintRezip, "the directory says method %d, the local header %d", h.method, method)
	}
	// Bits 1, 2 tell the packer's effort and bit 11 how to read a name whose bytes
	// are the same in both places.
	const counting = flagEncrypted | flagDescriptor | flagPatched | flagStrong | flagMasked
	if flags&counting != h.flags&counting {
		return refuseEntry(ruleAmbiguous, h.raw, hintRezip, "the directory says flags %#04x, the local header %#04x", h.flags, flags)
	}
	local := header{raw: h.raw, crc: le.Uint32(buf[14:]), compressed: uint64(le.Uint32(buf[18:])), uncompressed: uint64(le.Uint32(buf[22:]))}
	if err := local.readExtra(extra); err != nil {
		return err
	}
	if local.name != h.name {
		return refuseEntry(ruleAmbiguous, h.raw, hintRezip, "the local header has another Unicode name")
	}
	later := h.flags&flagDescriptor != 0
	differs := func(here, there uint64) bool { return here != there && (!later || here != 0) }
	if differs(uint64(local.crc), uint64(h.crc)) || differs(local.compressed, h.compressed) || differs(local.uncompressed, h.uncompressed) {
		return refuseEntry(ruleAmbiguous, h.raw, hintRezip,
			"the directory says %d bytes (%d packed, checksum %08x), the local header %d (%d packed, %08x)",
			h.uncompressed, h.compressed, h.crc, local.uncompressed, local.compressed, local.crc)
	}
	return nil
}

// checkDescriptor looks at what lies between an entry's content and the next
// entry: nothing, or the data descriptor that its flag announces, with or without
// signature, with sizes of 4 or 8 bytes (APPNOTE 4.3.9).
func checkDescriptor(r io.ReaderAt, h *header, at, next int64) error {
	gap := next - at
	if h.flags&flagDescriptor == 0 {
		if gap != 0 {
			return refuseEntry(ruleAmbiguous, h.raw, hintRezip, "%d bytes that belong to no entry follow it", gap)
		}
		return nil
	}
	if gap != 12 && gap != 16 && gap != 20 && gap != 24 {
		return refuseEntry(ruleAmbiguous, h.raw, hintRezip, "%d bytes follow it, which is no data descriptor", gap)
	}
	d := make([]byte, gap)
	if _, err := r.ReadAt(d, at); err != nil {
		return readError(err, "a data descriptor")
	}
	if gap == 16 || gap == 24 {
		if string(d[:4]) != sigDataDesc {
			return refuseEntry(ruleAmbiguous, h.raw, hintRezip, "its data descriptor has no signature")
		}
		d = d[4:]
	}
	crc, sizes := le.Uint32(d), d[4:]
	var compressed, uncompressed uint64
	if len(sizes) == 8 {
		compressed, uncompressed = uint64(le.Uint32(sizes)), uint64(le.Uint32(sizes[4:]))
	} else {
		compressed, uncompressed = le.Uint64(sizes), le.Uint64(sizes[8:])
	}
	if crc != h.crc || compressed != h.compressed || uncompressed != h.uncompressed {
		return refuseEntry(ruleAmbiguous, h.raw, hintRezip, "the directory and the data descriptor behind it disagree in sizes or checksum")
	}
	return nil
}
