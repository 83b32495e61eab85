package engine

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/tonistiigi/fsutil"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func engineDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("SLIPWAY_ENGINE")
	if dir == "" {
		dir = "../../bin/engine"
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "containerd")); err != nil {
		t.Fatalf("%v; run deploy/engine/build.sh first", err)
	}
	return dir
}

// newTestEngine works in a short folder: socket paths are limited.
func newTestEngine(t *testing.T) Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "sl")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{DataDir: dir, EngineDir: engineDir(t), Log: slog.New(slog.DiscardHandler)}
	t.Cleanup(func() {
		e, err := New(cfg)
		if err == nil {
			err = e.Stop(context.Background())
		}
		if err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return cfg
}

func startEngine(t *testing.T, cfg Config) *Engine {
	t.Helper()
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	begin := time.Now()
	if err := e.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("started in %s", time.Since(begin))
	t.Cleanup(e.Release)
	return e
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s for: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func pids(t *testing.T, e *Engine) map[string]int {
	t.Helper()
	m := map[string]int{}
	for _, c := range e.Components(t.Context()) {
		if c.State != "ready" || c.PID == 0 || c.Version == "" {
			t.Errorf("component %+v, want ready with pid and version", c)
		}
		m[c.Name] = c.PID
	}
	return m
}

func TestEngine_KillAdoptStop(t *testing.T) {
	cfg := newTestEngine(t)
	e := startEngine(t, cfg)
	before := pids(t, e)
	if len(before) != 3 {
		t.Fatalf("components %v, want three", before)
	}
	for i, c := range e.Components(t.Context()) {
		if err := unix.Kill(c.PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		waitFor(t, c.Name+" to come back", func() bool {
			now := e.Components(t.Context())[i]
			return now.State == "ready" && now.PID != c.PID && now.Restarts == 1
		})
		t.Logf("%s back after %s", c.Name, time.Since(begin))
	}
	before = pids(t, e)
	e.Release()
	e = startEngine(t, cfg)
	if after := pids(t, e); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Fatalf("pids %v, want %v adopted", after, before)
	}
	if err := e.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	assertNothingLeft(t, e, before)
}

func assertNothingLeft(t *testing.T, e *Engine, daemons map[string]int) {
	t.Helper()
	for name, pid := range daemons {
		if unix.Kill(pid, 0) == nil {
			t.Errorf("%s, pid %d, is still there", name, pid)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), e.cfg.DataDir) {
		t.Errorf("mounts left below %s", e.cfg.DataDir)
	}
	if _, err := netlink.LinkByName(e.addr.BuildBridge); err == nil {
		t.Errorf("bridge %s left", e.addr.BuildBridge)
	}
	out, err := exec.Command("nft", "list", "tables").CombinedOutput()
	if err != nil || strings.Contains(string(out), tableName(e.addr.BuildBridge)) {
		t.Errorf("firewall table left: %v %s", err, out)
	}
	if files, _ := filepath.Glob(filepath.Join(cniResults, e.networkName()+"-*")); len(files) > 0 {
		t.Errorf("CNI results left: %v", files)
	}
	if n := len(cgroupPIDs(e.addr.BuildCgroup)); n > 0 {
		t.Errorf("%d processes of builds left", n)
	}
}

func TestEngine_BuildStep_IsConfined(t *testing.T) {
	e := startEngine(t, newTestEngine(t))
	var addrs []string
	for _, ip := range append(hostAddresses(t), "127.0.0.1") {
		l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	out := runStep(t, e, addrs...)
	t.Log(out)
	for _, a := range addrs {
		if !strings.Contains(out, "dial "+a+" reached: false") {
			t.Errorf("the step reached %s", a)
		}
	}
	if !strings.Contains(out, e.addr.BuildCgroup+"/") {
		t.Errorf("the step is not in cgroup %s", e.addr.BuildCgroup)
	}
	if strings.Contains(strings.ToLower(out), "otel") {
		t.Error("the step was given the daemon's trace socket")
	}
	if strings.Count(out, "interface ") != 2 {
		t.Errorf("the step has other interfaces than lo and its own")
	}
}

// hostAddresses are this machine's IPv4 addresses, the bridge's among them.
func hostAddresses(t *testing.T) []string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() {
			list = append(list, ip.IP.String())
		}
	}
	return list
}

func TestEngine_BuildkitdKilledDuringStep_StepIsSwept(t *testing.T) {
	e := startEngine(t, newTestEngine(t))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = solveStep(t.Context(), t, e, "wait") // ends with the daemon, in error
	}()
	waitFor(t, "the step to run", func() bool { return len(cgroupPIDs(e.addr.BuildCgroup)) > 0 })
	results, err := filepath.Glob(filepath.Join(cniResults, e.networkName()+"-*"))
	if err != nil || len(results) == 0 {
		t.Fatalf("no CNI result of the running step, %v", err)
	}
	killed := pids(t, e)["buildkitd"]
	if err := unix.Kill(killed, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-done
	waitFor(t, "buildkitd to come back", func() bool {
		c := e.Components(t.Context())[2]
		return c.State == "ready" && c.PID != killed
	})
	if left := cgroupPIDs(e.addr.BuildCgroup); len(left) > 0 {
		t.Errorf("processes of the step left: %v", left)
	}
	cl, err := containerd.New(e.addr.Containerd)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for _, f := range results {
		if _, err := os.Stat(f); err == nil {
			t.Errorf("CNI result of a dead step left: %s", f)
		}
	}
	list, err := cl.Containers(namespaces.WithNamespace(t.Context(), Namespace))
	if err != nil || len(list) > 0 {
		t.Errorf("%d containers left, %v", len(list), err)
	}
	if out := runStep(t, e, "127.0.0.1:1"); !strings.Contains(out, "reached: false") {
		t.Errorf("a build after the sweep gives %q", out)
	}
}

// The daemon dies while containerd is still making the step's container: seen
// once as a shim that nobody knew.
func TestEngine_BuildkitdKilledDuringStepStart_LeavesNoShim(t *testing.T) {
	e := startEngine(t, newTestEngine(t))
	for range 5 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = solveStep(t.Context(), t, e, "wait") // ends with the daemon, in error
		}()
		waitFor(t, "a shim", func() bool { return len(shims(e.addr.Containerd)) > 0 })
		killed := pids(t, e)["buildkitd"]
		if err := unix.Kill(killed, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-done
		waitFor(t, "buildkitd to come back", func() bool {
			c := e.Components(t.Context())[2]
			return c.State == "ready" && c.PID != killed
		})
		waitFor(t, "the shim to go (by the sweep or by the next look of upkeep)", func() bool { return len(shims(e.addr.Containerd)) == 0 })
	}
}

func runStep(t *testing.T, e *Engine, args ...string) string {
	t.Helper()
	out, err := solveStep(t.Context(), t, e, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// solveStep builds testdata/step, runs it as a step on an empty root file
// system and returns its output.
func solveStep(ctx context.Context, t *testing.T, e *Engine, args ...string) (string, error) {
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "step"), "./testdata/step")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return string(out), err
	}
	local, err := fsutil.NewFS(dir)
	if err != nil {
		return "", err
	}
	root := llb.Scratch().File(llb.Copy(llb.Local("step"), "/step", "/step"))
	run := root.Run(llb.Args(append([]string{"/step"}, args...)), llb.IgnoreCache)
	def, err := run.Root().Marshal(ctx, llb.LinuxAmd64)
	if err != nil {
		return "", err
	}
	c, err := client.New(ctx, e.addr.Buildkit)
	if err != nil {
		return "", err
	}
	defer c.Close()
	var out bytes.Buffer
	status := make(chan *client.SolveStatus)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for s := range status {
			for _, l := range s.Logs {
				out.Write(l.Data)
			}
		}
	}()
	_, err = c.Solve(ctx, def, client.SolveOpt{LocalMounts: map[string]fsutil.FS{"step": local}}, status)
	<-read
	return out.String(), err
}

func TestEngine_S3_KeepsObjectsAndKeysOverRestart(t *testing.T) {
	cfg := newTestEngine(t)
	e := startEngine(t, cfg)
	put := func(name string) time.Duration {
		begin := time.Now()
		_, err := s3Client(t, e).PutObject(t.Context(), "bucket", "a/"+name, strings.NewReader("body"), 4, minio.PutObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return time.Since(begin)
	}
	if err := s3Client(t, e).MakeBucket(t.Context(), "bucket", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	put("x")
	t.Logf("a small object, synced: %s", put("y"))
	addr := e.Addresses()
	if err := e.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	e = startEngine(t, cfg)
	if e.Addresses() != addr {
		t.Errorf("addresses %+v, were %+v", e.Addresses(), addr)
	}
	info, err := s3Client(t, e).StatObject(t.Context(), "bucket", "a/x", minio.StatObjectOptions{})
	if err != nil || info.Size != 4 {
		t.Errorf("object %+v, %v", info, err)
	}
}

func s3Client(t *testing.T, e *Engine) *minio.Client {
	t.Helper()
	c, err := minio.New(e.addr.S3Endpoint, &minio.Options{
		Creds: credentials.NewStaticV4(e.addr.S3AccessKey, e.addr.S3SecretKey, ""), Region: s3Region,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEngine_S3PortTaken_ChoosesAnother(t *testing.T) {
	cfg := newTestEngine(t)
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	first := e.Addresses().S3Endpoint
	l, err := net.Listen("tcp", first)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e, err = New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if e.Addresses().S3Endpoint == first {
		t.Errorf("still %s, which somebody else holds", first)
	}
}
