package router

import (
	"encoding/json"
	"html"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// Values of X-Slipway-Error.
const (
	errBadRequest  = "bad_request"
	errNoTable     = "no_table"
	errUnknownHost = "unknown_host"
	errStopped     = "stopped"
	errNoInstance  = "no_instance"
	errUnreachable = "unreachable"
	errTimeout     = "timeout"
)

// errorPage is what a client sees when no instance answered.
type errorPage struct {
	status     int
	code       paas.Code
	title      string
	message    string
	hint       string
	retryAfter int // seconds; 0 = none
}

// pageOf words the answer to one class of error. It names what the client named,
// and the app only where the host already told which.
func (x *exchange) pageOf(class, detail string) errorPage {
	switch class {
	case errNoTable:
		return errorPage{http.StatusServiceUnavailable, paas.CodeUnavailable, "Starting",
			"this router has not been told its routes yet", "try again in a moment", 2}
	case errUnknownHost:
		return errorPage{http.StatusNotFound, paas.CodeNotFound, "No app here",
			"no app answers at " + x.host, "check the address; a new app appears once its first deployment has started", 0}
	case errStopped:
		return errorPage{http.StatusServiceUnavailable, paas.CodeUnavailable, "Stopped",
			"this app is stopped", "its owner can start it with: slipway start " + x.app.App, 0}
	case errNoInstance:
		if detail == "" {
			detail = "no instance is running yet"
		}
		return errorPage{http.StatusServiceUnavailable, paas.CodeUnavailable, "Not running yet",
			detail, "try again in a moment; what the app is doing: slipway ps -a " + x.app.App, 5}
	case errUnreachable:
		return errorPage{http.StatusBadGateway, paas.CodeUnavailable, "The app did not answer",
			detail + triesText(x.tries), "its last lines are in: slipway logs -a " + x.app.App, 0}
	case errTimeout:
		return errorPage{http.StatusGatewayTimeout, paas.CodeUnavailable, "The app took too long",
			"no answer within " + detail, "an app has to begin its answer in that time; it can stream the rest", 0}
	}
	return errorPage{http.StatusBadRequest, paas.CodeInvalid, "Bad request", detail, "", 0}
}

func triesText(tries int) string {
	if tries <= 1 {
		return ""
	}
	return " (the last of " + strconv.Itoa(tries) + " tries)"
}

// page answers with an error of the router's own.
func (x *exchange) page(class, detail string) {
	p := x.pageOf(class, detail)
	x.class, x.code = class, p.status
	h := x.w.Header()
	h.Set(headerError, class)
	h.Set("X-Request-Id", x.id)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	if hasBody(x.r) {
		// What is left of the body is not read on to find the next request.
		h.Set("Connection", "close")
		_ = x.rc.SetReadDeadline(time.Now().Add(time.Second))
	}
	body := p.html(x.id)
	h.Set("Content-Type", "text/html; charset=utf-8")
	if prefersJSON(x.r.Header["Accept"]) {
		body = p.json(x.id)
		h.Set("Content-Type", "application/json")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	x.w.WriteHeader(p.status)
	_, _ = x.w.Write(body) // a client that is gone needs no page
}

func (p errorPage) json(id string) []byte {
	b, _ := json.Marshal(struct { // strings always marshal
		Code      paas.Code `json:"code"`
		Message   string    `json:"message"`
		Hint      string    `json:"hint,omitempty"`
		RequestID string    `json:"requestId"`
	}{p.code, p.message, p.hint, id})
	return append(b, '\n')
}

func (p errorPage) html(id string) []byte {
	e := html.EscapeString
	var b strings.Builder
	b.WriteString(`<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">` +
		`<title>` + e(p.title) + `</title><style>body{font:16px/1.5 system-ui,sans-serif;max-width:36em;margin:15vh auto;padding:0 1em;color:#222}` +
		`small{color:#777}@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}}</style>` + "\n")
	b.WriteString("<h1>" + e(p.title) + "</h1>\n<p>" + e(sentence(p.message)) + "</p>\n")
	if p.hint != "" {
		b.WriteString("<p>" + e(sentence(p.hint)) + "</p>\n")
	}
	b.WriteString("<p><small>" + strconv.Itoa(p.status) + " · request " + e(id) + "</small></p></html>\n")
	return []byte(b.String())
}

// sentence gives a message its capital and its full stop.
func sentence(s string) string {
	if s == "" {
		return s
	}
	if c := s[0]; 'a' <= c && c <= 'z' {
		s = string(c-'a'+'A') + s[1:]
	}
	if strings.HasSuffix(s, ".") || strings.HasSuffix(s, "!") || strings.HasSuffix(s, "?") {
		return s
	}
	return s + "."
}

// prefersJSON reports whether JSON is asked for, and no less than HTML.
func prefersJSON(accept []string) bool {
	var asJSON, asHTML float64
	for _, v := range accept {
		for part := range strings.SplitSeq(v, ",") {
			kind, params, _ := strings.Cut(part, ";")
			q := quality(params)
			switch kind = strings.ToLower(strings.TrimSpace(kind)); {
			case kind == "application/json", strings.HasSuffix(kind, "+json"):
				asJSON = max(asJSON, q)
			case kind == "text/html", kind == "application/xhtml+xml":
				asHTML = max(asHTML, q)
			}
		}
	}
	return asJSON > 0 && asJSON >= asHTML
}

func quality(params string) float64 {
	for p := range strings.SplitSeq(params, ";") {
		if value, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(p)), "q="); ok {
			q, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0
			}
			return q
		}
	}
	return 1
}
