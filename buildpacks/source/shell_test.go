package source_test

import (
	"testing"

	"github.com/slipway-paas/slipway/buildpacks/source"
)

func TestShellArgv_AppReplacesShell(t *testing.T) {
	for _, c := range []struct {
		name, in, want string
		replaced       bool
	}{
		{"simple", "node a.js $PORT", "exec node a.js $PORT", true},
		{"assignment stays in front", `A=1 B="x y" node a.js`, `A=1 B="x y" exec node a.js`, true},
		{"last of a list", "cd app && node a.js", "cd app && exec node a.js", true},
		{"semicolon", "date; node a.js", "date; exec node a.js", true},
		{"trailing semicolon", "node a.js;", "exec node a.js;", true},
		{"operators in quotes", `node -e "a && b; c | d"`, `exec node -e "a && b; c | d"`, true},
		{"redirect", "node a.js 2>&1", "exec node a.js 2>&1", true},
		{"pipe keeps the shell", "node a.js | tee x", "node a.js | tee x", false},
		{"background keeps the shell", "node a.js &", "node a.js &", false},
		{"substitution", "node $(cat f)", "node $(cat f)", false},
		{"builtin", "node a.js && exit 3", "node a.js && exit 3", false},
		{"already exec", "exec node a.js", "exec node a.js", true},
		{"open quote", `node "a`, `node "a`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, replaced := source.ShellArgv(c.in)
			if got[2] != c.want || replaced != c.replaced {
				t.Errorf("ShellArgv(%q) = %q %v, want %q %v", c.in, got[2], replaced, c.want, c.replaced)
			}
		})
	}
}
