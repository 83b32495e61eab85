package engine

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
)

var versionNumber = regexp.MustCompile(`\d+\.\d+\.\d+[-+.0-9A-Za-z]*`)

// ProgramVersion asks a program of the engine for its version, "2.3.7" for
// containerd's "containerd … v2.3.7". CNI plugins tell theirs when called bare.
func ProgramVersion(ctx context.Context, program string) (string, error) {
	args := []string{"--version"}
	switch {
	case filepath.Base(program) == "containerd-shim-runc-v2":
		args = []string{"-v"}
	case filepath.Base(filepath.Dir(program)) == "cni":
		args = nil
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w: %s", program, err, out)
	}
	v := versionNumber.Find(out)
	if v == nil {
		return "", fmt.Errorf("%s tells no version: %q", program, out)
	}
	return string(v), nil
}

// version is ProgramVersion, remembered; "" if the program does not say.
func (e *Engine) version(ctx context.Context, c *component) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if v, ok := e.versions[c.name]; ok {
		return v
	}
	v, err := ProgramVersion(ctx, c.program)
	if err != nil {
		e.cfg.Log.Warn("version", "component", c.name, "err", err)
		return "" // asked again next time
	}
	e.versions[c.name] = v
	return v
}
