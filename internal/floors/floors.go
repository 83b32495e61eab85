// Package floors knows the oldest version of each part that Slipway may be
// built or run with. The table is deploy/engine/floors.json; this package's
// tests hold every go.mod of the repository and the engine's programs to it.
//
// It must not import anything of Slipway's but internal/engine, in its tests.
// Start reading at Floor.
package floors

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Floor is one row of the table.
type Floor struct {
	Part    string   `json:"part"`
	Module  string   `json:"module"`  // in go.mod; "go" is the language version; "" if none
	Program string   `json:"program"` // below the engine's folder; "" if none
	Floors  []string `json:"floors"`  // ascending, at most one for each major.minor line
	Why     string   `json:"why"`
}

// Load reads the table.
func Load(file string) ([]Floor, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var list []Floor
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return list, nil
}

// Check returns an error that names the reason if version is too old. A version
// of a line that has a floor must reach it; any other must be newer than the
// last floor.
func (f Floor) Check(version string) error {
	v, err := semver.NewVersion(strings.TrimPrefix(version, "go"))
	if err != nil {
		return fmt.Errorf("%s: version %q: %w", f.Part, version, err)
	}
	var floor *semver.Version
	for _, s := range f.Floors {
		if floor, err = semver.NewVersion(s); err != nil {
			return fmt.Errorf("%s: floor %q: %w", f.Part, s, err)
		}
		if floor.Major() == v.Major() && floor.Minor() == v.Minor() {
			break
		}
	}
	if floor == nil || v.LessThan(floor) {
		return fmt.Errorf("%s %s is below its floor (%s): %s; raise the version in go.mod and build the engine again",
			f.Part, version, strings.Join(f.Floors, " / "), f.Why)
	}
	return nil
}
