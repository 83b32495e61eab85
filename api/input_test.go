package api_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/slipway-paas/slipway/internal/paas"
)

func TestInput_BadBodies(t *testing.T) {
	p := newPlatform(t)
	if _, err := p.Store.CreateApp(t.Context(), paas.App{Name: "shop", Type: paas.TypeWeb, Instances: 1}, "t"); err != nil {
		t.Fatal(err)
	}
	env := func(s string) string { return `{"set":{` + s + `}}` }
	for _, c := range []struct {
		method, path, body string
		says               string
	}{
		{"POST", "/v1/apps", ``, "must be JSON"},
		{"POST", "/v1/apps", ` `, "line 1, column 1"},
		{"POST", "/v1/apps", `[]`, "must be a JSON object"},
		{"POST", "/v1/apps", `null`, "must be a JSON object"},
		{"POST", "/v1/apps", `{"name":"x"`, "ends early"},
		{"POST", "/v1/apps", "{\n  \"name\": \"x\",\n  \"colour\": 1}", `line 3, column 10: unknown field "colour"`},
		{"POST", "/v1/apps", `{"Name":"x"}`, "unknown field"},
		{"POST", "/v1/apps", `{"name":"x","name":"y"}`, "given twice"},
		{"POST", "/v1/apps", `{"name":"x"} {}`, "more after the object"},
		{"POST", "/v1/apps", "{\n\"name\":5}", "line 2, column 8: field \"name\" must be a string, not number"},
		{"POST", "/v1/apps", `{"name":"\ud800"}`, "not allowed"},
		{"POST", "/v1/apps", "{\"name\":\"\xff\"}", "UTF-8"},
		{"POST", "/v1/apps", `{"name":"x","instances":1e999}`, "whole number"},
		{"POST", "/v1/apps", `{"name":"x","instances":99999999999999999999}`, "whole number"},
		{"POST", "/v1/apps", `{"name":"x","instances":1.5}`, "whole number"},
		{"POST", "/v1/apps", `{"name":"x","instances":-1}`, "from 0 to 64"},
		{"POST", "/v1/apps", `{"name":"x","instances":65}`, "from 0 to 64"},
		{"POST", "/v1/apps", `{"name":"x","memoryMiB":9223372036854775807}`, "from 64 to 20480"},
		{"POST", "/v1/apps", `{"name":"x","cpuMillis":1}`, "from 10 to 64000"},
		{"POST", "/v1/apps", `{"name":"x","type":"lambda"}`, "web or worker"},
		{"POST", "/v1/apps", `{"name":{"a":{}}}`, "must be a string"},
		{"POST", "/v1/apps", `{"name":` + strings.Repeat("[", 100), "levels"},
		{"POST", "/v1/apps", strings.Repeat("[", 10_000), "object"},
		{"POST", "/v1/apps?x=1", `{"name":"x"}`, "unknown query parameter"},
		{"PATCH", "/v1/apps/shop", `{}`, "nothing to change"},
		{"PATCH", "/v1/apps/shop", `{"name":"other"}`, "unknown field"},
		{"PATCH", "/v1/apps/shop", `{"instances":100}`, "from 0 to 64"},
		{"PATCH", "/v1/apps/shop", `{"instances":"3"}`, "whole number"},
		{"PATCH", "/v1/apps/shop", `{"memoryMiB":1}`, "from 64 to 20480"},
		{"POST", "/v1/apps/shop/stop", `{"now":true}`, "unknown field"},
		{"POST", "/v1/apps/shop/restart?hard=1", ``, "unknown query"},
		{"POST", "/v1/apps/shop/rollback", `{"release":-1}`, "positive"},
		{"POST", "/v1/apps/shop/rollback", `{"release":"1"}`, "whole number"},
		{"PATCH", "/v1/apps/shop/env", `{}`, "nothing to change"},
		{"PATCH", "/v1/apps/shop/env", env(`"PORT":"1"`), "reserved"},
		{"PATCH", "/v1/apps/shop/env", env(`"SLIPWAY_X":"1"`), "reserved"},
		{"PATCH", "/v1/apps/shop/env", env(`"a b":"1"`), "not allowed"},
		{"PATCH", "/v1/apps/shop/env", env(`"1A":"1"`), "not allowed"},
		{"PATCH", "/v1/apps/shop/env", env(`"":"1"`), "not allowed"},
		{"PATCH", "/v1/apps/shop/env", env(`"A":"\u0000"`), "NUL"},
		{"PATCH", "/v1/apps/shop/env", env(`"A":1`), "must be a string"},
		{"PATCH", "/v1/apps/shop/env", env(`"A":"1","A":"2"`), "given twice"},
		{"PATCH", "/v1/apps/shop/env", env(`"A":"` + strings.Repeat("x", 32<<10+1) + `"`), "32769 bytes"},
		{"PATCH", "/v1/apps/shop/env", env(`"` + strings.Repeat("A", 129) + `":"1"`), "129 characters"},
		{"PATCH", "/v1/apps/shop/env", `{"set":{"A":"1"},"unset":["A"]}`, "set and in unset"},
		{"PATCH", "/v1/apps/shop/env", `{"set":[]}`, "an object"},
		{"PATCH", "/v1/apps/shop/env", `{"unset":"A"}`, "an array"},
		{"GET", "/v1/apps/shop/deployments?limit=0", "", "from 1 to 500"},
		{"GET", "/v1/apps/shop/deployments?limit=99999999999999999999", "", "from 1 to 500"},
		{"GET", "/v1/apps/shop/deployments/x", "", "not a positive number"},
		{"GET", "/v1/apps/shop/deployments/-1", "", "not a positive number"},
		{"GET", "/v1/apps/shop/deployments/99999999999999999999", "", "not a positive number"},
		{"GET", "/v1/apps/shop/deployments/1/events?until=never", "", "live or final"},
		{"GET", "/v1/apps/shop/releases/0", "", "not a positive number"},
		{"GET", "/v1/apps/shop/builds/1%00", "", "not a positive number"},
		{"GET", "/v1/apps/shop/env?reveal=maybe", "", "true or false"},
		{"GET", "/v1/apps/shop/logs?tail=-5", "", "from 0 to"},
		{"GET", "/v1/apps/shop/logs?since=yesterday", "", "a time like"},
		{"GET", "/v1/apps/shop/logs?instance=../../etc/passwd", "", "neither an ID"},
		{"GET", "/v1/apps/shop/logs?follow=true&follow=false", "", "2 times"},
		{"GET", "/v1/events?after=-1", "", "from 0 to"},
		{"GET", "/v1/events?after=%zz", "", "malformed"},
		{"GET", "/v1/apps/shop/instances/web.1/exec", "", "no command"},
		{"GET", "/v1/apps/shop/instances/web.1/exec?arg=a%00b", "", "NUL"},
		{"GET", "/v1/apps/shop/instances/web.1/exec?arg=ls&cols=70000", "", "from 0 to 1000"},
		{"GET", "/v1/apps/shop/instances/web.1/exec?" + strings.Repeat("arg=x&", 65), "", "65 words"},
	} {
		e := want(t, ask(t, p, c.method, c.path, c.body), 400, paas.CodeInvalid)
		if !strings.Contains(e.Message+" "+e.Hint, c.says) {
			t.Errorf("%s %s %.80s: %q (%s), want %q in it", c.method, c.path, c.body, e.Message, e.Hint, c.says)
		}
	}
	want(t, ask(t, p, "POST", "/v1/apps", `{"name":"`+strings.Repeat("x", 3<<20)+`"}`), 413, paas.CodeTooLarge)
	want(t, ask(t, p, "POST", "/v1/apps", `{"name":"x"}`, "Content-Type", "text/plain"), 400, paas.CodeInvalid)
	want(t, ask(t, p, "POST", "/v1/apps", `{"name":"x"}`, "Content-Type", ""), 400, paas.CodeInvalid)
	want(t, ask(t, p, "GET", "/v1/events", "", "Accept", "text/event-stream", "Last-Event-ID", "x"), 400, paas.CodeInvalid)
	want(t, ask(t, p, "GET", "/v1/apps/shop/logs", "", "Last-Event-ID", "x"), 400, paas.CodeInvalid)
	if e := p.LogText.String(); strings.Contains(e, `"level":"ERROR"`) {
		t.Error("bad input is logged as our error")
	}
}

func TestInput_EnvironmentTotal(t *testing.T) {
	p := newPlatform(t)
	if _, err := p.Store.CreateApp(t.Context(), paas.App{Name: "shop", Type: paas.TypeWeb, Instances: 1}, "t"); err != nil {
		t.Fatal(err)
	}
	for i := range 9 {
		a := ask(t, p, "PATCH", "/v1/apps/shop/env", fmt.Sprintf(`{"set":{"V%d":%q}}`, i, strings.Repeat("x", 32<<10-100)))
		if i < 8 {
			want(t, a, 200, "")
			continue
		}
		if e := want(t, a, 400, paas.CodeInvalid); !strings.Contains(e.Message, "the limit is 262144") {
			t.Errorf("message %q", e.Message)
		}
	}
}

// naughty strings in each place that takes one: always a clear 4xx.
func TestInput_NaughtyNames(t *testing.T) {
	p := newPlatform(t)
	seeds := []string{"", " ", "-", "-a", "a-", "A", "ä", "a_b", "a.b", "..", "../x", "a/b", `a\b`, "a b", "a\tb", "a\nb", "a\r\nX: y", "\x00", "a\x00", "%2e%2e",
		"%00", "${PATH}", "$(id)", "`id`", "; ls", "| cat", "&& x", "' OR '1'='1", `"; DROP TABLE apps; --`, "<script>alert(1)</script>", "{{7*7}}", "%s%n",
		"\u202eabc", "\u200b", "\ufeffa", "💥", "ﬁ", "İ", "nul\u0000l", "1a", "slipway", "api", "www", "localhost", "null\\", "a?b", "a#b", "a:b", "a@b", "a=b", "a+b", "*",
		"con", "\x1b[31m", strings.Repeat("a", 41), strings.Repeat("a", 300), strings.Repeat("ä", 5000)}
	var names []string
	for _, s := range seeds {
		for _, f := range []string{"%s", "x%s!", "%s%[1]s/", " %s", "%s\u0301", "X%s", "_%s", "%s.", "é%s"} {
			names = append(names, fmt.Sprintf(f, s))
		}
	}
	tried := 0
	for _, n := range names {
		if paas.ValidateAppName(n) == nil {
			continue
		}
		tried++
		body := fmt.Sprintf(`{"name":%s}`, quote(n))
		if a := ask(t, p, "POST", "/v1/apps", body); a.status != 400 {
			t.Errorf("POST name %q: status %d, want 400: %s", n, a.status, a.body)
		}
		if n == "" {
			continue
		}
		for _, path := range []string{"/v1/apps/%s", "/v1/apps/%s/logs", "/v1/apps/%s/deployments"} {
			a := ask(t, p, "GET", fmt.Sprintf(path, url.PathEscape(n)), "")
			if a.status < 400 || a.status >= 500 {
				t.Errorf("GET %s of %q: status %d: %s", path, n, a.status, a.body)
			}
		}
		a := ask(t, p, "POST", "/v1/apps/"+url.PathEscape(n)+"/deployments?create=true", "PK", "Content-Type", "application/zip")
		if a.status < 400 || a.status >= 500 {
			t.Errorf("deploy to %q: status %d: %s", n, a.status, a.body)
		}
	}
	if tried < 400 {
		t.Errorf("only %d names tried", tried)
	}
	if apps, err := p.Store.Apps(t.Context()); err != nil || len(apps) > 0 || len(p.Blobs.Keys()) > 0 {
		t.Errorf("left behind: %v, %v, %v", apps, p.Blobs.Keys(), err)
	}
}

// quote writes s as a JSON string byte by byte, so that broken UTF-8 stays so.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteString(`\` + string(c))
		case c < ' ':
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func TestInput_HugeHeadersAreRefused(t *testing.T) {
	p := newPlatform(t)
	a := ask(t, p, "GET", "/v1/apps", "", "X-Long", strings.Repeat("x", 100_000))
	if a.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d, want 431", a.status)
	}
}
