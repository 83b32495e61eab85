package floors

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/slipway-paas/slipway/internal/engine"
)

const table = "../../deploy/engine/floors.json"

func load(t *testing.T) []Floor {
	t.Helper()
	list, err := Load(table)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestFloor_Check(t *testing.T) {
	f := Floor{Part: "x", Floors: []string{"1.3.6", "1.4.3", "1.5.0"}}
	for version, ok := range map[string]bool{
		"v1.3.5": false, "1.3.6": true, "1.4.2": false, "1.4.9": true, "1.5.0": true, "1.5.2": true, "1.6.0": true, "2.0.0": true,
		"1.2.9": false, "0.9.0": false, "nonsense": false,
		"1.5.0-rc.1": false, // released before the mend was
	} {
		if err := f.Check(version); (err == nil) != ok {
			t.Errorf("%s: %v, want ok %v", version, err, ok)
		}
	}
}

func TestFloors_EveryGoMod(t *testing.T) {
	floors, found := load(t), 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == "testdata" || len(d.Name()) > 2 && d.Name()[0] == '.') {
			return fs.SkipDir
		}
		if d.Name() != "go.mod" {
			return nil
		}
		found++
		data, err := os.ReadFile(path)
		for _, f := range floors {
			if v := moduleVersion(string(data), f.Module); v != "" {
				if err := f.Check(v); err != nil {
					t.Errorf("%s: %v", path, err)
				}
			}
		}
		return err
	})
	if err != nil || found < 3 {
		t.Errorf("%d go.mod files looked at, want at least 3 (product, engine, engine's test server); %v", found, err)
	}
}

func moduleVersion(mod, module string) string {
	if module == "" {
		return ""
	}
	m := regexp.MustCompile(`(?m)^\s*(?:require\s+)?` + regexp.QuoteMeta(module) + `\s+v?(\S+)`).FindStringSubmatch(mod)
	if m == nil {
		return ""
	}
	return m[1]
}

func TestFloors_EnginePrograms(t *testing.T) {
	dir := os.Getenv("SLIPWAY_ENGINE")
	if dir == "" {
		dir = "../../bin/engine"
	}
	pins, err := os.ReadFile("../../deploy/engine/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range load(t) {
		if f.Program == "" {
			continue
		}
		v, err := engine.ProgramVersion(t.Context(), filepath.Join(dir, f.Program))
		if err != nil {
			t.Errorf("%v; run deploy/engine/build.sh", err)
			continue
		}
		if err := f.Check(v); err != nil {
			t.Error(err)
		}
		if pin := moduleVersion(string(pins), f.Module); pin != "" && strings.TrimPrefix(pin, "v") != v {
			t.Errorf("%s says it is %s, go.mod pins %s; run deploy/engine/build.sh", f.Program, v, pin)
		}
	}
}
