package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slipway-paas/slipway/buildpacks/accfile"
)

// pages are the documents for people, by path from here.
func pages(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"../../*.md", "../../docs/*.md", "../../docs/*/*.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			out[f] = string(b)
		}
	}
	if out["../../README.md"] == "" || out["../../docs/apps.md"] == "" || out["../../docs/operate.md"] == "" {
		t.Fatalf("found %q", sortedKeys(out))
	}
	return out
}

var failureCode = regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)

// failureCodes are the codes of paas.Failure that the code of a folder makes:
// constants named Fail…, Code in literals, assignments to .Code, and what
// functions with a first result named code return.
func failureCodes(t *testing.T, folder string, found map[string]bool) {
	t.Helper()
	add := func(e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil && failureCode.MatchString(s) {
				found[s] = true
			}
		}
	}
	err := filepath.WalkDir(folder, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == "testdata" || strings.HasSuffix(d.Name(), "test")) {
			return orSkip(err)
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				for i, id := range n.Names {
					if strings.HasPrefix(strings.ToLower(id.Name), "fail") && i < len(n.Values) {
						add(n.Values[i])
					}
				}
			case *ast.CompositeLit:
				if sel, ok := n.Type.(*ast.SelectorExpr); !ok || sel.Sel.Name != "Failure" {
					return true
				}
				for _, e := range n.Elts {
					if kv, ok := e.(*ast.KeyValueExpr); ok && kv.Key.(*ast.Ident).Name == "Code" {
						add(kv.Value)
					}
				}
			case *ast.AssignStmt:
				for i, left := range n.Lhs {
					if sel, ok := left.(*ast.SelectorExpr); ok && sel.Sel.Name == "Code" && i < len(n.Rhs) {
						add(n.Rhs[i])
					}
				}
			case *ast.FuncDecl:
				if r := n.Type.Results; r != nil && len(r.List[0].Names) > 0 && r.List[0].Names[0].Name == "code" {
					ast.Inspect(n.Body, func(n ast.Node) bool {
						if ret, ok := n.(*ast.ReturnStmt); ok && len(ret.Results) > 0 {
							add(ret.Results[0])
						}
						return true
					})
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func orSkip(err error) error {
	if err == nil {
		return fs.SkipDir
	}
	return err
}

func TestDocs_EveryFailureCode_IsInAppsMd(t *testing.T) {
	found := map[string]bool{}
	for _, folder := range []string{"../../builder", "../../buildpacks", "../../runtime/reconcile", "../../internal/store"} {
		failureCodes(t, folder, found)
	}
	_, table, ok := strings.Cut(pages(t)["../../docs/apps.md"], "## Why a deployment failed")
	if !ok {
		t.Fatal("docs/apps.md has no section on failures")
	}
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| [^|]+ \\| [^|]+ \\|$").FindAllStringSubmatch(table, -1) {
		documented = append(documented, m[1])
	}
	slices.Sort(documented)
	if made := sortedKeys(found); !slices.Equal(made, documented) {
		t.Errorf("the code makes %q\ndocs/apps.md has %q", made, documented)
	}
	for code := range ourFailures {
		if !found[code] {
			t.Errorf("ourFailures has %q, which nothing makes", code)
		}
	}
}

func TestDocs_Examples_AreAccepted(t *testing.T) {
	fence := regexp.MustCompile("(?s)```json (\\w+)\n(.*?)```")
	seen := map[string]int{}
	for page, text := range pages(t) {
		for _, m := range fence.FindAllStringSubmatch(text, -1) {
			seen[m[1]]++
			var unknown []string
			var err error
			switch m[1] {
			case "manifest":
				var f *accfile.Manifest
				if f, err = accfile.ParseManifest([]byte(m[2])); err == nil {
					unknown = append(f.Unknown, f.Unused...)
				}
			case "deployment":
				var f *accfile.Deployment
				if f, err = accfile.ParseDeployment([]byte(m[2])); err == nil {
					unknown = append(f.Unknown, f.Unused...)
				}
			default:
				t.Errorf("%s: an example of %q; say manifest or deployment", page, m[1])
			}
			if err != nil || len(unknown) > 0 {
				t.Errorf("%s: %v, without effect %q, in\n%s", page, err, unknown, m[2])
			}
		}
	}
	if seen["manifest"] == 0 || seen["deployment"] == 0 {
		t.Errorf("found %v", seen)
	}
}

// codeIn are the lines of a page's code: fenced blocks and spans.
func codeIn(text string) (lines []string) {
	fenced := false
	span := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(strings.TrimSpace(line), "```"):
			fenced = !fenced
		case fenced:
			line, _, _ = strings.Cut(line, " # ")
			lines = append(lines, strings.TrimSpace(line))
		default:
			for _, m := range span.FindAllStringSubmatch(line, -1) {
				lines = append(lines, m[1])
			}
		}
	}
	return lines
}

func TestDocs_VerbsAndFlags_Exist(t *testing.T) {
	root := newRoot()
	flags := map[string]bool{}
	each(root, func(cmd *cobra.Command) {
		cmd.InitDefaultHelpFlag()
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { flags["--"+f.Name] = true })
		cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) { flags["--"+f.Name] = true })
	})
	flags["--version"] = true
	checked := 0
	for page, text := range pages(t) {
		for _, line := range codeIn(text) {
			words := strings.Fields(line)
			if len(words) == 0 || words[0] != "slipway" && words[0] != "bin/slipway" && !strings.HasPrefix(words[0], "--") {
				continue
			}
			var verb *cobra.Command
			if !strings.HasPrefix(words[0], "--") {
				cmd, _, err := root.Find(words[1:])
				if err != nil && regexp.MustCompile(`^[a-z]+$`).MatchString(words[1]) {
					t.Errorf("%s: `%s`: %v", page, line, err)
					continue
				}
				verb = cmd
			}
			for _, w := range words {
				if w == "--" {
					break // what follows is another program's
				}
				name, _, _ := strings.Cut(w, "=")
				if name = strings.TrimRight(name, ",;.)"); !strings.HasPrefix(name, "--") {
					continue
				}
				checked++
				known := flags[name]
				if verb != nil {
					known = verb.Flags().Lookup(name[2:]) != nil || verb.InheritedFlags().Lookup(name[2:]) != nil || name == "--help"
				}
				if !known {
					t.Errorf("%s: `%s`: there is no %s", page, line, name)
				}
			}
		}
	}
	if checked < 25 {
		t.Errorf("found %d flags in the documents", checked)
	}
}

func TestDocs_EnvironmentNames_Exist(t *testing.T) {
	known := map[string]bool{"SLIPWAY_SERVER": true, "SLIPWAY_TOKEN": true, "SLIPWAY_APP": true, "SLIPWAY_CONFIG": true, "SLIPWAY_RELEASE": true}
	var f pflag.FlagSet
	new(config).register(&f)
	f.VisitAll(func(f *pflag.Flag) {
		known["SLIPWAY_"+strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))] = true
	})
	for page, text := range pages(t) {
		for _, name := range regexp.MustCompile(`SLIPWAY_[A-Z0-9_]+`).FindAllString(text, -1) {
			if !known[name] {
				t.Errorf("%s: nothing reads %s", page, name)
			}
		}
	}
}
