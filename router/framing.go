package router

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Limits on what a client may send before a request is understood.
const (
	maxHeadBytes    = 64 << 10
	maxHeadFields   = 100
	maxChunkLine    = 1 << 10
	maxTrailerBytes = 16 << 10
	maxChunkDigits  = 16
	maxLengthDigits = 18 // below 1<<63 without a check for overflow
)

// framingError says which rule of framing a client broke. Two parsers that read
// such bytes differently can be made to see different requests, so that the only
// safe answer is to refuse and close.
type framingError struct{ rule string }

func (e *framingError) Error() string { return "malformed request: " + e.rule }

func broken(format string, args ...any) error {
	return &framingError{rule: fmt.Sprintf(format, args...)}
}

type scanState uint8

const (
	scanHead scanState = iota
	scanBody
	scanChunkLine
	scanChunkData
	scanChunkEnd
	scanTrailer
)

// scanner follows a client's bytes from request to request and refuses what
// RFC 9112 leaves ambiguous. It does no I/O and holds a buffer only while in the
// middle of a head, a chunk line or trailers. It is stricter than net/http, which
// reads the same bytes behind it; so the two never disagree on where a request ends.
type scanner struct {
	state     scanState
	buf       []byte // the head, chunk line or trailer section so far
	lineStart int    // where the current line begins in buf
	remaining uint64 // bytes left of a body or chunk
	endCR     bool   // the CR that ends a chunk was seen
	err       error
}

// scan reads b and returns how many bytes of it may be passed on. When err is
// set, the bytes before n are harmless: they never complete a request.
func (s *scanner) scan(b []byte) (n int, err error) {
	if s.err != nil {
		return 0, s.err
	}
	for n < len(b) {
		if s.state == scanBody || s.state == scanChunkData {
			n += s.skip(len(b) - n)
			continue
		}
		if s.err = s.step(b[n]); s.err != nil {
			s.buf = nil
			return n, s.err
		}
		n++
	}
	return n, nil
}

// skip passes body bytes over, at most available.
func (s *scanner) skip(available int) int {
	n := uint64(available)
	if n < s.remaining {
		s.remaining -= n
		return available
	}
	n, s.remaining = s.remaining, 0
	if s.state == scanBody {
		s.reset(scanHead)
		return int(n)
	}
	s.state = scanChunkEnd
	return int(n)
}

func (s *scanner) reset(next scanState) {
	s.state, s.buf, s.lineStart, s.endCR = next, nil, 0, false
}

func (s *scanner) step(c byte) error {
	if s.state == scanChunkEnd {
		return s.stepChunkEnd(c)
	}
	if limit := s.limit(); len(s.buf) >= limit {
		return broken("more than %d bytes", limit)
	}
	afterCR := len(s.buf) > s.lineStart && s.buf[len(s.buf)-1] == '\r'
	switch {
	case afterCR && c != '\n':
		return broken("a carriage return without a line feed")
	case !afterCR && c == '\n':
		return broken("a line feed without a carriage return")
	case c != '\r' && c != '\n' && c != '\t' && (c < ' ' || c == 0x7f):
		return broken("control byte 0x%02x", c)
	}
	s.buf = append(s.buf, c)
	if c != '\n' {
		return nil
	}
	line := s.buf[s.lineStart : len(s.buf)-2]
	s.lineStart = len(s.buf)
	return s.endLine(line)
}

func (s *scanner) limit() int {
	switch s.state {
	case scanChunkLine:
		return maxChunkLine
	case scanTrailer:
		return maxTrailerBytes
	}
	return maxHeadBytes
}

func (s *scanner) stepChunkEnd(c byte) error {
	switch {
	case !s.endCR && c == '\r':
		s.endCR = true
		return nil
	case s.endCR && c == '\n':
		s.reset(scanChunkLine)
		return nil
	}
	return broken("a chunk longer than its size says")
}

func (s *scanner) endLine(line []byte) error {
	switch {
	case s.state == scanChunkLine:
		return s.endChunkLine(line)
	case len(line) > 0 && s.state == scanTrailer:
		return checkTrailer(line)
	case s.state == scanTrailer:
		s.reset(scanHead)
		return nil
	case len(line) > 0:
		return nil
	}
	h, err := parseHead(s.buf)
	if err != nil {
		return err
	}
	switch {
	case h.chunked:
		s.reset(scanChunkLine)
	case h.length > 0:
		s.reset(scanBody)
		s.remaining = h.length
	default:
		s.reset(scanHead)
	}
	return nil
}

func (s *scanner) endChunkLine(line []byte) error {
	size, err := parseChunkLine(line)
	if err != nil {
		return err
	}
	if size == 0 {
		s.reset(scanTrailer)
		return nil
	}
	s.reset(scanChunkData)
	s.remaining = size
	return nil
}

// parseChunkLine reads a chunk's size and checks its extensions.
func parseChunkLine(line []byte) (uint64, error) {
	digits, ext, hasExt := bytes.Cut(line, []byte(";"))
	if len(digits) == 0 || len(digits) > maxChunkDigits {
		return 0, broken("a chunk size of %d digits", len(digits))
	}
	for _, c := range digits {
		if !isHex(c) {
			return 0, broken("chunk size %q", digits)
		}
	}
	size, err := strconv.ParseUint(string(digits), 16, 63)
	if err != nil {
		return 0, broken("chunk size %q", digits)
	}
	if hasExt && !isChunkExt(ext) {
		return 0, broken("chunk extension %q", ext)
	}
	return size, nil
}

// isChunkExt reports whether each extension is name or name=value, without
// white space; quoted values hold no semicolon here, which RFC 9112 would allow
// and nobody sends.
func isChunkExt(ext []byte) bool {
	for part := range bytes.SplitSeq(ext, []byte(";")) {
		name, value, hasValue := bytes.Cut(part, []byte("="))
		if !isToken(name) {
			return false
		}
		if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
			value = value[1 : len(value)-1]
			if bytes.ContainsAny(value, "\"\\") {
				return false
			}
			continue
		}
		if hasValue && !isToken(value) {
			return false
		}
	}
	return true
}

func checkTrailer(line []byte) error {
	name, _, err := parseField(line)
	if err != nil {
		return err
	}
	switch strings.ToLower(string(name)) {
	case "content-length", "transfer-encoding", "host", "trailer":
		return broken("%s as a trailer", name)
	}
	return nil
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
