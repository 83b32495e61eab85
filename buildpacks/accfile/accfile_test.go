package accfile_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/slipway-paas/slipway/buildpacks/accfile"
	"github.com/slipway-paas/slipway/internal/paas"
)

func TestParseManifest_RefusesWithPlace(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"empty", " \n", "manifest.json is empty"},
		{"list", "[]", "line 1 column 1: expected an object {…}, found a list"},
		{"unclosed", "{\n \"command\": \"x\"", "line 2 column 16: the text ends too early"},
		{"comma", "{\"a\":1,}", "line 1 column 8: "},
		{"twice", "{\n\"a\":1,\n  \"a\":2}", `line 3 column 3: "a" is there twice`},
		{"after the end", "{}\n{}", "line 2 column 1: invalid character"},
		{"type", `{"type": "cron"}`, `column 10: type is "cron", allowed is web or worker`},
		{"range", "{\n\"startupTime\": 601}", "line 2 column 16: startupTime is 601, allowed is 10 to 600 seconds"},
		{"wrong type", `{"command": ["node"]}`, "column 13: command must be a string, found a list"},
		{"fraction", `{"shutdownTime": 1.5}`, `column 18: shutdownTime must be a whole number, found "1.5"`},
		{"boolean", `{"isClustered": "maybe"}`, "isClustered must be true or false"},
		{"nested", `{"runtime": {"majorVersion": {}}}`, "column 30: runtime.majorVersion must be a string, found an object"},
		{"column counts characters", `{"é": 1, "type": 3}`, "column 18"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := accfile.ParseManifest([]byte(c.in))
			var e *paas.Error
			if !errors.As(err, &e) || e.Code != paas.CodeInvalid || !strings.Contains(e.Message, c.want) {
				t.Errorf("ParseManifest(%q) = %v, want an invalid error with %q", c.in, err, c.want)
			}
		})
	}
}

func TestParseManifest_TakesWhatRealFilesHold(t *testing.T) {
	m, err := accfile.ParseManifest([]byte("\xef\xbb\xbf" + `{"runtime":{"majorVersion":8},"type":"WEB","startupTime":"120","shutdownTime":0,
		"isClustered":"false","healthcheck":{"http-endpoint":""},"release":{},"mode":null,"x":{"y":[1]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if m.MajorVersion != "8" || m.Type != paas.TypeWeb || m.StartupTime.Seconds() != 120 || m.ShutdownTime == nil || m.HealthPath != "" {
		t.Errorf("got %+v", m)
	}
	if strings.Join(m.Unknown, ",") != "x" || len(m.Unused) != 0 {
		t.Errorf("unknown %v, unused %v", m.Unknown, m.Unused)
	}
}

func TestParseDeployment(t *testing.T) {
	d, err := accfile.ParseDeployment([]byte(`{"memory":"512M","instances":3,"environment":{"A":1,"B":true},"secureEnvironment":["A"],"services":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	if d.MemoryBytes != 512<<20 || d.Instances != 3 || d.Environment["A"] != "1" || d.Environment["B"] != "true" || d.Unused != nil {
		t.Errorf("got %+v", d)
	}
	for _, bad := range []string{`{"memory":"21G"}`, `{"memory":2}`, `{"instances":0}`, `{"instances":65}`, `{"environment":[]}`,
		`{"environment":{"a b":"x"}}`, `{"secureEnvironment":["X"]}`, `{"environment":{"A":{}}}`} {
		if _, err := accfile.ParseDeployment([]byte(bad)); paas.CodeOf(err) != paas.CodeInvalid || !strings.Contains(err.Error(), "column") {
			t.Errorf("ParseDeployment(%s) = %v, want an invalid error with a place", bad, err)
		}
	}
}

func FuzzManifest(f *testing.F) {
	for _, s := range []string{`{}`, `{"command":"x","runtime":{"majorVersion":1}}`, `{"a":[1,{"b":null}]}`, "{\n\"a\":", `{"startupTime":"1e3"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := accfile.ParseManifest(text)
		var e *paas.Error
		if err != nil && (!errors.As(err, &e) || e.Code != paas.CodeInvalid) {
			t.Fatalf("error of another kind: %v", err)
		}
		if err == nil && m.StartupTime != 0 && (m.StartupTime < 10e9 || m.StartupTime > paas.MaxStartupTime) {
			t.Fatalf("startupTime out of range: %v", m.StartupTime)
		}
		if _, err := accfile.ParseDeployment(text); err != nil && !errors.As(err, &e) {
			t.Fatalf("error of another kind: %v", err)
		}
	})
}
