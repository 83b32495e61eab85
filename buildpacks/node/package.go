package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"path"
	"sort"
	"strings"

	"github.com/slipway-paas/slipway/buildpacks/source"
)

// packageJSON is what counts of package.json. Fields of the wrong type are left
// empty, as npm itself does for most.
type packageJSON struct {
	Main           string
	Type           string
	PackageManager string
	Engines        map[string]string
	Scripts        map[string]string
	Dependencies   map[string]string
	Dev            map[string]string
	Optional       map[string]string
	Workspaces     []string
	found          bool
}

func readPackage(src *source.Source) (*packageJSON, error) {
	text, err := src.ReadFile("package.json")
	if err != nil {
		return nil, err
	}
	if text == nil {
		return &packageJSON{}, nil
	}
	return parsePackage("package.json", text)
}

func parsePackage(name string, text []byte) (*packageJSON, error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		var syntax *json.SyntaxError
		line := 1 + bytes.Count(text, []byte("\n"))
		if errors.As(err, &syntax) {
			line = 1 + bytes.Count(text[:min(int(syntax.Offset), len(text))], []byte("\n"))
		}
		return nil, source.Failf(source.FailInvalidFile, "check it with `npm pkg get name`", "%s line %d: %s", name, line, strings.TrimPrefix(err.Error(), "json: "))
	}
	p := &packageJSON{found: true}
	get := func(field string, into any) bool {
		return raw[field] != nil && json.Unmarshal(raw[field], into) == nil
	}
	get("main", &p.Main)
	get("type", &p.Type)
	get("packageManager", &p.PackageManager)
	get("engines", &p.Engines)
	get("scripts", &p.Scripts)
	get("dependencies", &p.Dependencies)
	get("devDependencies", &p.Dev)
	get("optionalDependencies", &p.Optional)
	if !get("workspaces", &p.Workspaces) {
		var yarnForm struct{ Packages []string }
		get("workspaces", &yarnForm)
		p.Workspaces = yarnForm.Packages
	}
	return p, nil
}

// installed lists what must be there to run, sorted; development dependencies
// count when a build script needs them.
func (p *packageJSON) installed() []string {
	var out []string
	for d := range p.Dependencies {
		out = append(out, d)
	}
	if p.Scripts["build"] != "" && len(p.Dependencies) == 0 {
		for d := range p.Dev {
			out = append(out, d)
		}
	}
	sort.Strings(out)
	return out
}

func (p *packageJSON) isOptional(name string) bool { _, ok := p.Optional[name]; return ok }

// local reports whether a dependency lies in the archive itself.
func (p *packageJSON) local() bool {
	for _, m := range []map[string]string{p.Dependencies, p.Dev, p.Optional} {
		for _, v := range m {
			for _, prefix := range []string{"file:", "link:", "portal:", "./", "../"} {
				if strings.HasPrefix(v, prefix) {
					return true
				}
			}
		}
	}
	return false
}

// installScript names a script of the app itself that runs on install and may
// read any file; "" if there is none. Git hooks are of no use in a build and
// their tools are missing there, so they do not count.
func (p *packageJSON) installScript() string {
	for _, s := range []string{"preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare", "postprepare"} {
		if line := p.Scripts[s]; line != "" && !isGitHook(line) {
			return s
		}
	}
	return ""
}

func (p *packageJSON) gitHookScript() string {
	for _, s := range []string{"prepare", "postinstall", "install"} {
		if isGitHook(p.Scripts[s]) {
			return s
		}
	}
	return ""
}

func isGitHook(line string) bool {
	words := strings.Fields(line)
	if len(words) == 0 || strings.ContainsAny(line, ";&") {
		return false
	}
	switch path.Base(words[0]) {
	case "husky", "lefthook", "simple-git-hooks", "is-ci":
		return true
	}
	return false
}
