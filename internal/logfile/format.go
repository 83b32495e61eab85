package logfile

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

const (
	// MaxLine is the longest text of one line; the rest is left out with a mark.
	MaxLine = 64 << 10
	// MaxFileBytes is when a file is rotated, KeepFiles how many an instance has.
	MaxFileBytes = 8 << 20
	KeepFiles    = 4

	suffix = ".log"
	// stamp has a fixed width, so that the text begins at a fixed column.
	stamp     = "2006-01-02T15:04:05.000000000Z"
	textStart = len(stamp) + 3
	magic     = "# slipway-log 1"
)

// Streams as they stand in the file.
const (
	Stdout byte = 'o'
	Stderr byte = 'e'
	Mark   byte = 's'
)

// Header says whose output a file holds.
type Header struct {
	Instance string // ID
	Slot     int
	Release  int
}

func (h Header) append(b []byte) []byte {
	b = append(b, magic...)
	b = append(b, " instance="...)
	b = append(b, h.Instance...)
	b = append(b, " slot="...)
	b = strconv.AppendInt(b, int64(h.Slot), 10)
	b = append(b, " release="...)
	b = strconv.AppendInt(b, int64(h.Release), 10)
	return append(b, '\n')
}

// parseHeader reads what append wrote; ok is false for any other line.
func parseHeader(line []byte) (h Header, ok bool) {
	rest, ok := strings.CutPrefix(string(line), magic)
	if !ok {
		return h, false
	}
	for _, f := range strings.Fields(rest) {
		k, v, _ := strings.Cut(f, "=")
		switch k {
		case "instance":
			h.Instance = v
		case "slot":
			h.Slot, _ = strconv.Atoi(v) // 0 = not known
		case "release":
			h.Release, _ = strconv.Atoi(v)
		}
	}
	return h, h.Instance != ""
}

// appendLine appends one line in the file's format.
func appendLine(b []byte, at time.Time, stream byte, text []byte) []byte {
	b = at.UTC().AppendFormat(b, stamp)
	b = append(b, ' ', stream, ' ')
	b = append(b, text...)
	return append(b, '\n')
}

// parseLine splits a line without its line feed; ok is false if it is none of ours.
func parseLine(line []byte) (at time.Time, stream byte, text []byte, ok bool) {
	if len(line) < textStart || line[len(stamp)] != ' ' || line[textStart-1] != ' ' {
		return at, 0, nil, false
	}
	at, err := time.Parse(stamp, string(line[:len(stamp)]))
	if err != nil {
		return at, 0, nil, false
	}
	return at, line[len(stamp)+1], bytes.Clone(line[textStart:]), true
}
