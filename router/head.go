package router

import (
	"bytes"
	"strconv"
	"strings"
)

// head is what framing needs to know of a request's head.
type head struct {
	chunked bool
	length  uint64
}

// parseHead checks a whole head, with its last empty line, whose lines all end
// in CR LF.
func parseHead(b []byte) (head, error) {
	line, rest, _ := bytes.Cut(b, []byte("\r\n"))
	method, target, http11, err := parseRequestLine(line)
	if err != nil {
		return head{}, err
	}
	f := fields{http11: http11}
	for n := 0; ; n++ {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		if len(line) == 0 {
			break
		}
		if n == maxHeadFields {
			return head{}, broken("more than %d header fields", maxHeadFields)
		}
		if err := f.add(line); err != nil {
			return head{}, err
		}
	}
	if f.hosts == 0 {
		return head{}, broken("no Host")
	}
	return f.head, checkTarget(method, target, f.host)
}

// parseRequestLine splits "METHOD target HTTP/1.x", with single spaces.
func parseRequestLine(line []byte) (method, target string, http11 bool, err error) {
	parts := strings.Split(string(line), " ")
	if len(parts) != 3 || !isToken([]byte(parts[0])) || parts[1] == "" {
		return "", "", false, broken("request line %.80q", line)
	}
	switch parts[2] {
	case "HTTP/1.1":
		http11 = true
	case "HTTP/1.0":
	default:
		return "", "", false, broken("version %.20q", parts[2])
	}
	return parts[0], parts[1], http11, nil
}

// fields gathers those that decide framing and routing.
type fields struct {
	head
	http11  bool
	hosts   int
	host    string
	lengths int
	codings int
}

func (f *fields) add(line []byte) error {
	name, value, err := parseField(line)
	if err != nil {
		return err
	}
	switch strings.ToLower(string(name)) {
	case "host":
		if f.hosts++; f.hosts > 1 {
			return broken("Host given twice")
		}
		f.host = string(value)
		if _, ok := NormalizeHost(f.host); !ok {
			return broken("Host %.80q", value)
		}
	case "content-length":
		return f.addLength(value)
	case "transfer-encoding":
		return f.addCoding(value)
	}
	return nil
}

func (f *fields) addLength(value []byte) error {
	if f.lengths++; f.lengths > 1 {
		return broken("Content-Length given twice")
	}
	if f.codings > 0 {
		return broken("both Content-Length and Transfer-Encoding")
	}
	n, ok := parseLength(string(value))
	if !ok {
		return broken("Content-Length %.80q", value)
	}
	f.length = n
	return nil
}

func (f *fields) addCoding(value []byte) error {
	if f.codings++; f.codings > 1 {
		return broken("Transfer-Encoding given twice")
	}
	if f.lengths > 0 {
		return broken("both Content-Length and Transfer-Encoding")
	}
	if !f.http11 {
		return broken("Transfer-Encoding in HTTP/1.0")
	}
	if !strings.EqualFold(string(value), "chunked") {
		return broken("Transfer-Encoding %.80q", value)
	}
	f.chunked = true
	return nil
}

// parseLength reads digits only: no sign, no list, no empty value.
func parseLength(s string) (uint64, bool) {
	if s == "" || len(s) > maxLengthDigits {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(s, 10, 63)
	return n, err == nil
}

// parseField splits "Name: value". A folded line begins with white space, which
// is no token, and is refused with the rest.
func parseField(line []byte) (name, value []byte, err error) {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok || !isToken(name) {
		return nil, nil, broken("header field %.80q", line)
	}
	return name, bytes.Trim(value, " \t"), nil
}

// checkTarget refuses targets that routing and the instance could read differently.
func checkTarget(method, target, host string) error {
	if strings.ContainsAny(target, "#\\") {
		return broken("target %.80q", target)
	}
	if method == "CONNECT" {
		return broken("CONNECT: this is no forward proxy")
	}
	if target[0] == '/' || target == "*" && method == "OPTIONS" {
		return nil
	}
	authority, _, ok := splitAbsolute(target)
	if !ok {
		return broken("target %.80q", target)
	}
	if !strings.EqualFold(authority, host) {
		return broken("target for %.80q with Host %.80q", authority, host)
	}
	return nil
}

// splitAbsolute splits "http://authority/path?query" and gives the path with the
// query, "/" if there is none.
func splitAbsolute(target string) (authority, path string, ok bool) {
	scheme, rest, ok := strings.Cut(target, "://")
	if !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return "", "", false
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		return rest, "/", true
	}
	path = rest[end:]
	if path[0] == '?' {
		path = "/" + path
	}
	return rest[:end], path, true
}

// isToken reports whether b is an RFC 9110 token: the alphabet of methods and
// field names.
func isToken(b []byte) bool {
	for _, c := range b {
		if !isTokenByte(c) {
			return false
		}
	}
	return len(b) > 0
}

func isTokenByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
