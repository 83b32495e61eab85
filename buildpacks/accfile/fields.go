package accfile

import (
	"encoding/json"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// reader takes known names out of an object and remembers the first error. Names
// are compared without case, since real files spell healthCheck in three ways.
type reader struct {
	doc     *document
	prefix  string // "runtime." inside that object
	object  []member
	known   map[string]bool
	err     *paas.Error
	unknown *[]string
}

func newReader(doc *document, prefix string, v value, unknown *[]string) *reader {
	return &reader{doc: doc, prefix: prefix, object: v.members, known: map[string]bool{}, unknown: unknown}
}

// get finds a name; null counts as absent.
func (r *reader) get(name string) (value, bool) {
	r.known[strings.ToLower(name)] = true
	for _, m := range r.object {
		if strings.EqualFold(m.name, name) && m.value.data != nil {
			return m.value, true
		}
	}
	return value{}, false
}

func (r *reader) fail(v value, format string, args ...any) {
	if r.err == nil {
		r.err = r.doc.errorf(v.offset, format, args...)
	}
}

// done reports the first error and collects the names nobody asked for.
func (r *reader) done() error {
	if r.err != nil {
		return r.err
	}
	for _, m := range r.object {
		if !r.known[strings.ToLower(m.name)] {
			*r.unknown = append(*r.unknown, r.prefix+m.name)
		}
	}
	sort.Strings(*r.unknown)
	return nil
}

// text accepts a string; numbers and booleans count as what they spell.
func (r *reader) text(name string) string {
	v, ok := r.get(name)
	if !ok {
		return ""
	}
	s, ok := scalar(v)
	if !ok {
		r.fail(v, "%s%s must be a string, found %s", r.prefix, name, v.kind())
	}
	return s
}

func scalar(v value) (string, bool) {
	switch x := v.data.(type) {
	case string:
		return x, true
	case json.Number:
		return x.String(), true
	case bool:
		return strconv.FormatBool(x), true
	}
	return "", false
}

// number accepts a whole number or a string that spells one. ok = it was given.
func (r *reader) number(name string, from, to int, unit string) (n int, ok bool) {
	v, ok := r.get(name)
	if !ok {
		return 0, false
	}
	s, isScalar := scalar(v)
	if _, isBool := v.data.(bool); !isScalar || isBool {
		r.fail(v, "%s%s must be a whole number, found %s", r.prefix, name, v.kind())
		return 0, false
	}
	if s = strings.TrimSpace(s); s == "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		r.fail(v, "%s%s must be a whole number, found %q", r.prefix, name, s)
		return 0, false
	}
	if n < from || n > to {
		r.fail(v, "%s%s is %d, allowed is %d to %d%s", r.prefix, name, n, from, to, unit)
		return 0, false
	}
	return n, true
}

func (r *reader) seconds(name string, from, to time.Duration) (time.Duration, bool) {
	n, ok := r.number(name, int(from/time.Second), int(to/time.Second), " seconds")
	return time.Duration(n) * time.Second, ok
}

func (r *reader) boolean(name string) bool {
	v, ok := r.get(name)
	if !ok {
		return false
	}
	s, _ := scalar(v)
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "true":
		return true
	case "false", "":
		if _, isObject := v.data.([]member); !isObject {
			if _, isList := v.data.([]value); !isList {
				return false
			}
		}
	}
	r.fail(v, "%s%s must be true or false, found %s", r.prefix, name, v.kind())
	return false
}

// choice accepts one of a few words in any case and returns it as listed.
func (r *reader) choice(name string, words ...string) string {
	s := strings.TrimSpace(r.text(name))
	if s == "" {
		return ""
	}
	for _, w := range words {
		if strings.EqualFold(w, s) {
			return w
		}
	}
	v, _ := r.get(name)
	r.fail(v, "%s%s is %q, allowed is %s", r.prefix, name, s, strings.Join(words, " or "))
	return ""
}

// child returns a reader of an object inside; nil if it is not given.
func (r *reader) child(name string) *reader {
	v, ok := r.get(name)
	if !ok {
		return nil
	}
	if _, ok := v.data.([]member); !ok {
		r.fail(v, "%s%s must be an object {…}, found %s", r.prefix, name, v.kind())
		return nil
	}
	return newReader(r.doc, r.prefix+name+".", v, r.unknown)
}

// close ends a child and passes its error up.
func (r *reader) close(child *reader) {
	if child == nil {
		return
	}
	if child.done() != nil && r.err == nil {
		r.err = child.err
	}
}
