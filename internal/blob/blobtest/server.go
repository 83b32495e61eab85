package blobtest

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The keys of the servers that tests start.
const (
	AccessKey = "slipway-test"
	SecretKey = "slipway-test-secret"
)

// Server is a running S3 server that the test owns.
type Server struct {
	Endpoint string
	DataDir  string
	PartDirs []string // where it keeps parts, as patterns below DataDir

	path string
	args []string
	env  []string
	cmd  *exec.Cmd
}

// VersityGW starts the gateway that Slipway supervises.
func VersityGW(t *testing.T, dataDir string) *Server {
	t.Helper()
	addr := freeAddress(t)
	s := &Server{
		Endpoint: addr, DataDir: dataDir, PartDirs: []string{"*/.sgwtmp"}, path: engine(t, "versitygw"),
		args: []string{"--access", AccessKey, "--secret", SecretKey, "--port", addr, "--quiet", "posix", dataDir},
	}
	s.Start(t)
	return s
}

// MinIO starts the second server, which exists for tests only.
func MinIO(t *testing.T, dataDir string) *Server {
	t.Helper()
	addr := freeAddress(t)
	s := &Server{
		Endpoint: addr, DataDir: dataDir, PartDirs: []string{".minio.sys/multipart"}, path: engine(t, "test/minio"),
		args: []string{"server", "--quiet", "--address", addr, "--console-address", freeAddress(t), dataDir},
		env:  []string{"MINIO_ROOT_USER=" + AccessKey, "MINIO_ROOT_PASSWORD=" + SecretKey, "MINIO_BROWSER=off", "MINIO_UPDATE=off", "HOME=" + t.TempDir()},
	}
	s.Start(t)
	return s
}

// engine finds a daemon: in $SLIPWAY_ENGINE or bin/engine of the repository.
func engine(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("SLIPWAY_ENGINE")
	for up := "."; dir == ""; up = filepath.Join("..", up) {
		abs, err := filepath.Abs(up)
		if err != nil || abs == "/" {
			t.Fatal("no go.mod above the test's folder")
		}
		if _, err := os.Stat(filepath.Join(abs, "go.mod")); err == nil {
			dir = filepath.Join(abs, "bin/engine")
		}
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make engine first", err)
	}
	return path
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Start starts the server (again) and waits until it answers.
func (s *Server) Start(t *testing.T) {
	t.Helper()
	log := &strings.Builder{}
	s.cmd = exec.Command(s.path, s.args...)
	s.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, s.env...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Endpoint+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
			if res.StatusCode < 500 {
				return
			}
		}
		select {
		case <-ctx.Done():
			s.Kill()
			t.Fatalf("%s does not answer at %s within 30s: %s", s.path, s.Endpoint, log)
		case <-tick.C:
		}
	}
}

// Kill ends the server at once (SIGKILL) and waits for it.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // gone already is fine
	_ = s.cmd.Wait()         // always "killed"
	s.cmd = nil
}
