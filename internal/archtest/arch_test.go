package archtest

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/slipway-paas/slipway/"

type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
}

// rules: a package under from may not import anything under a deny, unless an
// allow matches.
var rules = []struct {
	from  string
	deny  []string
	allow []string
	why   string
}{
	{"", []string{module + "cmd/"}, nil, "cmd wires everything and nothing imports cmd"},
	{"internal/paas", []string{module, "gorm.io", "github.com/", "golang.org/x/"}, nil, "the domain uses the standard library only"},
	{"api", siblings("api/"), nil, "siblings meet through internal/paas"},
	{"builder", siblings("builder/", "buildpacks/"), nil, "siblings meet through internal/paas"},
	{"buildpacks", siblings("buildpacks/"), nil, "buildpacks decide, they execute nothing"},
	{"runtime", siblings("runtime/"), nil, "siblings meet through internal/paas"},
	{"router", siblings("router/"), nil, "siblings meet through internal/paas"},
	{"internal/store", siblings("internal/store/"), nil, "siblings meet through internal/paas"},
	{"internal/blob", siblings("internal/blob/"), nil, "siblings meet through internal/paas"},
	{"runtime/reconcile", []string{module + "runtime/"}, []string{module + "runtime/driver", module + "runtime/reconcile"}, "reconcile knows drivers by their contract only"},
	{"buildpacks/plan", []string{module}, []string{module + "internal/paas", module + "buildpacks/plan"}, "a plan is pure data"},
	{"", []string{"gorm.io/"}, []string{"@internal/store"}, "internal/store is the only importer of gorm"},
	{"", []string{"github.com/moby/buildkit"}, []string{"@builder/llb", "@internal/engine"}, "builder/llb is the only importer of BuildKit (internal/engine pings it)"},
	{"", []string{"github.com/labstack/echo"}, []string{"@api"}, "echo stays inside api"},
}

// siblings lists the adapter trees but for those that begin with own.
func siblings(own ...string) []string {
	var out []string
next:
	for _, s := range []string{"api/", "builder/", "buildpacks/", "runtime/", "router/", "internal/store/", "internal/blob/"} {
		for _, o := range own {
			if s == o {
				continue next
			}
		}
		out = append(out, module+s)
	}
	return out
}

func TestImports_FollowTheDirectionOfTheDesign(t *testing.T) {
	for _, p := range packages(t) {
		rel := strings.TrimPrefix(p.ImportPath, module)
		for _, r := range rules {
			if !under(rel, r.from) || exempt(rel, r.allow) {
				continue
			}
			for _, imp := range p.Imports {
				if denied(imp, r.deny) && !allowed(imp, r.allow) {
					t.Errorf("%s imports %s: %s", rel, imp, r.why)
				}
			}
		}
	}
}

func TestPackages_SayWhatTheyAreFor(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) == 0 {
			continue
		}
		if !documented(t, p) {
			t.Errorf("%s has no package comment: say what it is for, what it must not import, where to start reading", p.ImportPath)
		}
	}
}

func documented(t *testing.T, p pkg) bool {
	t.Helper()
	for _, f := range p.GoFiles {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Fatal(err)
		}
		if file.Doc != nil && len(file.Doc.Text()) > 60 {
			return true
		}
	}
	return false
}

func under(rel, from string) bool {
	return from == "" || rel == from || strings.HasPrefix(rel, from+"/")
}

// exempt reports whether rel itself is named by an "@package" of allow.
func exempt(rel string, allow []string) bool {
	for _, a := range allow {
		if name, ok := strings.CutPrefix(a, "@"); ok && under(rel, name) {
			return true
		}
	}
	return false
}

func denied(imp string, deny []string) bool {
	for _, d := range deny {
		if strings.HasPrefix(imp, d) || imp == strings.TrimSuffix(d, "/") {
			return true
		}
	}
	return false
}

func allowed(imp string, allow []string) bool {
	for _, a := range allow {
		if imp == a || strings.HasPrefix(imp, a+"/") {
			return true
		}
	}
	return false
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 5 {
		t.Fatalf("go list found %d packages", len(all))
	}
	return all
}
