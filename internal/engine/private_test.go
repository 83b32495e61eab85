package engine

import (
	"os"
	"path/filepath"
	"testing"
)

// Not even on a data folder that an earlier version left readable.
func TestNew_ContainerdsData_IsForRootOnly(t *testing.T) {
	dir, bin := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "containerd"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "containerd", "root")
	private := []string{"io.containerd.metadata.v1.bolt", "io.containerd.content.v1.content"}
	if err := os.MkdirAll(filepath.Join(root, private[0]), 0o711); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{DataDir: dir, EngineDir: bin, BuildkitAddress: "unix:///b", S3Endpoint: "127.0.0.1:1", S3AccessKey: "a", S3SecretKey: "s"}); err != nil {
		t.Fatal(err)
	}
	for _, d := range private {
		if info, err := os.Stat(filepath.Join(root, d)); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", d, info, err)
		}
	}
}
