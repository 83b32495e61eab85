package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"github.com/slipway-paas/slipway/internal/paas"
)

// maxJSON bounds a JSON body: an environment may have 256 KiB of values, each
// byte of which may be escaped as \u00xx.
const maxJSON = 2 << 20

// maxDepth bounds nesting; no document of ours is deeper than 3.
const maxDepth = 16

// decode reads a JSON body strictly into out, a pointer to a flat struct: fields
// that are not known, given twice or of the wrong type, and anything after the
// object, are refused with line and column. An empty body means {} if optional.
func decode(c echo.Context, out any, optional bool) error {
	body, err := io.ReadAll(http.MaxBytesReader(c.Response().Writer, c.Request().Body, maxJSON))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return paas.Errorf(paas.CodeTooLarge, "the body is larger than %d bytes", maxJSON)
	}
	if err != nil {
		return paas.Errorf(paas.CodeInvalid, "the body ended early after %d bytes", len(body)).WithCause(err)
	}
	if len(body) == 0 && optional {
		return nil
	}
	if ct, _, err := mime.ParseMediaType(c.Request().Header.Get("Content-Type")); err != nil || ct != "application/json" {
		return paas.Errorf(paas.CodeInvalid, "the body must be JSON").WithHint("send the header Content-Type: application/json")
	}
	if !utf8.Valid(body) {
		return paas.Errorf(paas.CodeInvalid, "the body is not valid UTF-8")
	}
	if err := checkObject(body, fieldNames(out)); err != nil {
		return err
	}
	if err := json.Unmarshal(body, out); err != nil {
		return jsonError(body, err)
	}
	return nil
}

// checkObject walks the tokens of body, which must be one object whose keys are
// among known and nowhere repeated.
func checkObject(body []byte, known []string) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var seen []map[string]bool // per open object; nil for an array
	key := true                // the next string of an object is a key
	for {
		t, err := d.Token()
		if err == io.EOF && len(seen) == 0 {
			err = io.ErrUnexpectedEOF // nothing but space
		}
		if err != nil {
			return jsonError(body, err)
		}
		line, col := position(body, d.InputOffset())
		if len(seen) == 0 && t != json.Delim('{') {
			return paas.Errorf(paas.CodeInvalid, "line %d, column %d: the body must be a JSON object", line, col)
		}
		switch {
		case t == json.Delim('{'):
			seen, key = append(seen, map[string]bool{}), true
		case t == json.Delim('['):
			seen = append(seen, nil)
		case t == json.Delim('}'), t == json.Delim(']'):
			seen, key = seen[:len(seen)-1], true
		case seen[len(seen)-1] != nil && key:
			name := t.(string)
			if len(seen) == 1 && !slices.Contains(known, name) {
				return paas.Errorf(paas.CodeInvalid, "line %d, column %d: unknown field %q", line, col, clip(name, 60)).
					WithHint("known fields: %s", strings.Join(known, ", "))
			}
			if seen[len(seen)-1][name] {
				return paas.Errorf(paas.CodeInvalid, "line %d, column %d: field %q is given twice", line, col, clip(name, 60))
			}
			seen[len(seen)-1][name], key = true, false
		default:
			key = true
		}
		if len(seen) > maxDepth {
			return paas.Errorf(paas.CodeInvalid, "line %d, column %d: more than %d levels", line, col, maxDepth)
		}
		if len(seen) == 0 {
			if _, err := d.Token(); err != io.EOF {
				return paas.Errorf(paas.CodeInvalid, "line %d, column %d: there is more after the object", line, col)
			}
			return nil
		}
	}
}

// jsonError words what encoding/json says, with the place.
func jsonError(body []byte, err error) error {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	offset := int64(len(body))
	what := "the JSON ends early"
	switch {
	case errors.As(err, &syntax):
		if syntax.Offset < offset {
			offset, what = syntax.Offset, syntax.Error()
		}
	case errors.As(err, &typ):
		offset = typ.Offset
		what = "field \"" + clip(typ.Field, 60) + "\" must be " + kindName(typ.Type) + ", not " + clip(typ.Value, 40)
	case !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF):
		what = clip(err.Error(), 200)
	}
	line, col := position(body, offset)
	return paas.Errorf(paas.CodeInvalid, "line %d, column %d: %s", line, col, what)
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Map, reflect.Struct:
		return "an object"
	}
	return "a whole number"
}

// position turns a byte offset into line and column, both from 1.
func position(body []byte, offset int64) (line, col int) {
	before := body[:min(max(offset, 0), int64(len(body)))]
	line = bytes.Count(before, []byte("\n")) + 1
	col = max(utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]), 1)
	return line, col
}

// fieldNames lists the JSON names of a pointer to a struct, in its order.
func fieldNames(v any) []string {
	t := reflect.TypeOf(v).Elem()
	names := make([]string, t.NumField())
	for i := range names {
		names[i], _, _ = strings.Cut(t.Field(i).Tag.Get("json"), ",")
	}
	return names
}
