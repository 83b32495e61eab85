package accfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	"github.com/slipway-paas/slipway/internal/paas"
)

// Bounds of a document; real ones have a few hundred bytes.
const (
	maxBytes = 1 << 20
	maxDepth = 32
)

// value is a JSON value that knows where it stands, so that an error can say so.
type value struct {
	offset  int
	data    any // nil, bool, json.Number, string, []value, []member
	members []member
}

type member struct {
	name   string
	offset int // of the name
	value  value
}

// document is a text being read.
type document struct {
	name string // "manifest.json"
	text []byte
	dec  *json.Decoder
}

// parseObject reads a whole document that must be one JSON object.
func parseObject(name string, text []byte) (*document, value, error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // editors on Windows add it
	d := &document{name: name, text: text}
	if len(text) > maxBytes {
		return d, value{}, paas.Errorf(paas.CodeInvalid, "%s has %d bytes, the limit is %d", name, len(text), maxBytes)
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return d, value{}, paas.Errorf(paas.CodeInvalid, "%s is empty", name).WithHint(`write at least {}`)
	}
	if err := d.checkSyntax(); err != nil {
		return d, value{}, err
	}
	d.dec = json.NewDecoder(bytes.NewReader(text))
	d.dec.UseNumber()
	v, err := d.value(0)
	if err != nil {
		return d, value{}, err
	}
	if _, ok := v.data.([]member); !ok {
		return d, value{}, d.errorf(v.offset, "expected an object {…}, found %s", v.kind())
	}
	return d, v, nil
}

// next is the offset of the token that will be read next.
func (d *document) next() int {
	at := int(d.dec.InputOffset())
	for at < len(d.text) && strings.IndexByte(" \t\r\n,:", d.text[at]) >= 0 {
		at++
	}
	return at
}

// checkSyntax finds what is no JSON at all. A json.Decoder would find it too, but
// the offsets in its errors mean different things in different places.
func (d *document) checkSyntax() error {
	var any json.RawMessage
	err := json.Unmarshal(d.text, &any)
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return nil
	}
	if strings.Contains(syntax.Error(), "unexpected end") {
		return d.errorf(len(d.text), "the text ends too early; a bracket or quote is not closed")
	}
	return d.errorf(max(0, int(syntax.Offset)-1), "%s", syntax.Error())
}

func (d *document) token() (json.Token, int, error) {
	at := d.next()
	t, err := d.dec.Token()
	if err != nil {
		return nil, 0, d.errorf(at, "%v", err)
	}
	return t, at, nil
}

func (d *document) value(depth int) (value, error) {
	t, at, err := d.token()
	if err != nil {
		return value{}, err
	}
	if depth > maxDepth {
		return value{}, d.errorf(at, "nested deeper than %d levels", maxDepth)
	}
	switch t {
	case json.Delim('{'):
		return d.object(at, depth)
	case json.Delim('['):
		return d.array(at, depth)
	}
	return value{offset: at, data: t}, nil
}

func (d *document) object(at, depth int) (value, error) {
	members := []member{}
	seen := map[string]bool{}
	for d.dec.More() {
		t, nameAt, err := d.token()
		if err != nil {
			return value{}, err
		}
		name, ok := t.(string)
		if !ok {
			return value{}, d.errorf(nameAt, "expected a name in quotes")
		}
		if seen[name] {
			return value{}, d.errorf(nameAt, "%q is there twice", name)
		}
		seen[name] = true
		v, err := d.value(depth + 1)
		if err != nil {
			return value{}, err
		}
		members = append(members, member{name, nameAt, v})
	}
	if _, _, err := d.token(); err != nil {
		return value{}, err
	}
	return value{offset: at, data: members, members: members}, nil
}

func (d *document) array(at, depth int) (value, error) {
	list := []value{}
	for d.dec.More() {
		v, err := d.value(depth + 1)
		if err != nil {
			return value{}, err
		}
		list = append(list, v)
	}
	if _, _, err := d.token(); err != nil {
		return value{}, err
	}
	return value{offset: at, data: list}, nil
}

// errorf is an Error with the place in lines and columns, both from 1; a column
// is a character, not a byte.
func (d *document) errorf(offset int, format string, args ...any) *paas.Error {
	before := d.text[:min(offset, len(d.text))]
	line := 1 + bytes.Count(before, []byte("\n"))
	lineStart := bytes.LastIndexByte(before, '\n') + 1
	column := 1 + len([]rune(string(before[lineStart:])))
	e := paas.Errorf(paas.CodeInvalid, format, args...)
	return paas.Errorf(paas.CodeInvalid, "%s line %d column %d: %s", d.name, line, column, e.Message)
}

func (v value) kind() string {
	switch v.data.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case json.Number:
		return "a number"
	case string:
		return "a string"
	case []value:
		return "a list"
	}
	return "an object"
}
