// Package atomicfile writes small files so that a reader, also one after a kill or
// a power cut, sees the old content or the new one, never a part. It imports the
// standard library only. Start reading at Write.
package atomicfile

import (
	"fmt"
	"os"
	"path/filepath"
)

// Write replaces the file at path by a temporary file beside it, sync and rename.
// The folder must exist. Concurrent writers do not mix: the last rename stays.
// After an error the old content stands and nothing is left behind.
func Write(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already after the rename
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}
