package router

import (
	"strings"
	"testing"
)

func TestNormalizeHost(t *testing.T) {
	for _, c := range []struct {
		in, want string
		ok       bool
	}{
		{"app.test", "app.test", true},
		{"APP.Test:8080", "app.test", true},
		{"app.test.", "app.test", true},
		{"app.test.:80", "app.test", true},
		{"app.test:", "app.test", true},
		{"127.0.0.1:80", "127.0.0.1", true},
		{"[::1]:80", "[::1]", true},
		{"[0:0::1]", "[::1]", true},
		{"a_b.test", "a_b.test", true},
		{"", "", false},
		{".", "", false},
		{":80", "", false},
		{"a..b", "", false},
		{".a", "", false},
		{"a.test..", "", false},
		{"a b", "", false},
		{"a/b", "", false},
		{"u@a", "", false},
		{"a:80:80", "", false},
		{"a:123456", "", false},
		{"::1", "", false},
		{"[::1", "", false},
		{"[::1]x", "", false},
		{"[fe80::1%eth0]", "", false},
		{"[1.2.3.4]", "", false},
		{"é.test", "", false},
		{strings.Repeat("a", 64), "", false},
		{strings.Repeat("a.", 127) + "a", "", false},
	} {
		if got, ok := NormalizeHost(c.in); ok != c.ok || ok && got != c.want {
			t.Errorf("NormalizeHost(%q) = %q, %v; want %q, %v", c.in, got, ok, c.want, c.ok)
		}
	}
}

func FuzzNormalizeHost(f *testing.F) {
	for _, s := range []string{"a.test:80", "[::1]:8", "A.", "a..b", "x@y", "a\x00b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, ok := NormalizeHost(s)
		if !ok {
			return
		}
		if again, ok := NormalizeHost(name); !ok || again != name {
			t.Errorf("NormalizeHost(%q) = %q, of which it makes %q, %v", s, name, again, ok)
		}
		if strings.ContainsAny(name, " \t\r\n/@#?,;\"<>\\\x00") || strings.ToLower(name) != name {
			t.Errorf("NormalizeHost(%q) = %q", s, name)
		}
	})
}
