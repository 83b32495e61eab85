package engine

import (
	"bytes"
	"os"

	"github.com/slipway-paas/slipway/internal/atomicfile"
)

// makeDir makes the folder with exactly this mode whatever the umask is.
func makeDir(path string, mode os.FileMode) error {
	if err := os.MkdirAll(path, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// writeFile writes by temporary file, sync and rename; an unchanged file is
// left alone.
func writeFile(path string, data []byte, mode os.FileMode) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return os.Chmod(path, mode)
	}
	return atomicfile.Write(path, data, mode)
}
