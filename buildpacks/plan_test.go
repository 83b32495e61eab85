package buildpacks_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/slipway-paas/slipway/buildpacks"
	"github.com/slipway-paas/slipway/buildpacks/plan"
	"github.com/slipway-paas/slipway/buildpacks/source"
	"github.com/slipway-paas/slipway/internal/paas"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// catalog is fixed, so that plans are.
func catalog() source.Catalog {
	tools := func(versions ...string) (out []source.ToolVersion) {
		for _, v := range versions {
			out = append(out, source.ToolVersion{Version: v})
		}
		return out
	}
	return source.Catalog{
		Node:    []string{"18.20.8", "20.19.0", "20.20.2", "22.23.3", "23.11.1", "24.21.0", "25.9.0", "26.10.0"},
		NodeLTS: []int{18, 20, 22, 24, 26},
		Tools: map[string][]source.ToolVersion{
			"npm":               append(tools("10.9.4", "11.19.1"), source.ToolVersion{Version: "12.2.0", Node: ">=24"}),
			"pnpm":              tools("8.15.9", "9.12.0", "9.15.9", "10.20.0", "11.1.0"),
			"yarn":              tools("1.22.22"),
			"@yarnpkg/cli-dist": tools("3.8.7", "4.5.3", "4.18.1"),
		},
	}
}

func TestMake_GoldenPlans(t *testing.T) {
	apps, err := os.ReadDir("testdata/apps")
	if err != nil {
		t.Fatal(err)
	}
	for _, app := range apps {
		t.Run(app.Name(), func(t *testing.T) {
			got := describe(t, source.Input{FS: os.DirFS(filepath.Join("testdata/apps", app.Name())), Catalog: catalog()})
			golden := filepath.Join("testdata/golden", app.Name()+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("plan of %s changed; got:\n%s\nwant:\n%s", app.Name(), got, want)
			}
		})
	}
}

// describe is the plan, or the error a user would see.
func describe(t *testing.T, in source.Input) string {
	res, err := buildpacks.Make(in)
	var failure *source.FailureError
	var user *paas.Error
	switch {
	case errors.As(err, &failure):
		f := failure.Failure
		return fmt.Sprintf("failure %s\n%s\nhint: %s\n%q\n", f.Code, f.Message, f.Hint, f.Output)
	case errors.As(err, &user):
		return fmt.Sprintf("error %s\n%s\n", user.Code, user.Message)
	case err != nil:
		t.Fatal(err)
	}
	text, err := res.Plan.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestMake_FilesBesideTheArchiveWin(t *testing.T) {
	res, err := buildpacks.Make(source.Input{
		FS: os.DirFS("testdata/apps/acc-ready"), Catalog: catalog(),
		Manifest:   []byte(`{"command":"node other.js","runtime":{"majorVersion":20}}`),
		Deployment: []byte(`{"instances":5,"environment":{"A":"1"}}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	p := res.Plan
	if got := p.Start[2]; got != "exec node other.js" {
		t.Errorf("start = %q, want that of the manifest beside the archive", got)
	}
	if p.Runtime.Version != "20.20.2" || p.Count != 5 || p.Memory != 0 {
		t.Errorf("node %s, %d instances, %d bytes; want 20.20.2, 5, 0", p.Runtime.Version, p.Count, p.Memory)
	}
	if res.UserEnv["A"] != "1" || len(res.UserEnv) != 1 {
		t.Errorf("environment = %v, want that of the deployment beside the archive", res.UserEnv)
	}
}

func TestPlan_KeyIgnoresReasonsOnly(t *testing.T) {
	make := func(manifest string) *plan.Plan {
		res, err := buildpacks.Make(source.Input{FS: os.DirFS("testdata/apps/acc-ready"), Catalog: catalog(), Manifest: []byte(manifest)})
		if err != nil {
			t.Fatal(err)
		}
		return res.Plan
	}
	a := make(`{"command":"node x.js"}`)
	if b := make(`{"command":"node x.js","unknown":1}`); a.Key() != b.Key() {
		t.Error("a warning changed the key")
	}
	if b := make(`{"command":"node y.js"}`); a.Key() == b.Key() {
		t.Error("another command left the key the same")
	}
	text, _ := a.Encode()
	back, err := plan.Decode(text)
	if err != nil || back.Key() != a.Key() {
		t.Errorf("decoded plan has another key (%v)", err)
	}
}
