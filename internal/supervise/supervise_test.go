package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The test binary is also the child ("serve") and a server that can be killed
// ("supervise"), so that every process here is a real one.
func TestMain(m *testing.M) {
	switch role := os.Getenv("SUPERVISE_TEST_ROLE"); role {
	case "serve":
		serve()
	case "supervise":
		superviseUntilKilled()
	default:
		goleak.VerifyTestMain(m)
	}
}

// serve answers on a unix socket; the options are in SUPERVISE_TEST_MODE.
func serve() {
	mode := os.Getenv("SUPERVISE_TEST_MODE")
	fmt.Println("hello from", os.Getpid(), "HOME="+os.Getenv("HOME"))
	if strings.Contains(mode, "exit") {
		fmt.Println("cannot open the frobnicator")
		os.Exit(3)
	}
	if strings.Contains(mode, "stubborn") {
		signal.Ignore(syscall.SIGTERM)
	}
	sock := os.Getenv("SUPERVISE_TEST_SOCKET")
	_ = os.Remove(sock)
	l, err := net.Listen("unix", sock)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			os.Exit(1)
		}
		if _, err := os.Stat(sock + ".hang"); err == nil {
			continue // keeps the connection open without a word
		}
		fmt.Fprintln(c, os.Getpid())
		c.Close()
	}
}

func superviseUntilKilled() {
	p := testProcess(os.Getenv("SUPERVISE_TEST_DIR"), "")
	s, err := New(p, slog.New(slog.DiscardHandler))
	if err == nil {
		err = s.Start(context.Background())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.Status().PID)
	select {}
}

func testProcess(dir, mode string) Process {
	sock := filepath.Join(dir, "s")
	return Process{
		Name: "helper", Path: "/proc/self/exe", Args: []string{"-test.run=^$"},
		Env:     []string{"SUPERVISE_TEST_ROLE=serve", "SUPERVISE_TEST_MODE=" + mode, "SUPERVISE_TEST_SOCKET=" + sock},
		Marker:  dir + "/helper",
		PIDFile: filepath.Join(dir, "run", "helper.pid"), LogFile: filepath.Join(dir, "logs", "helper.log"),
		Ready:      func(ctx context.Context) error { _, err := ask(ctx, sock); return err },
		BackoffMin: 5 * time.Millisecond, HealthInterval: 100 * time.Millisecond, HealthFailures: 2,
		StartTimeout: 10 * time.Second, StopGrace: 3 * time.Second,
	}
}

func ask(ctx context.Context, sock string) (pid int, err error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", sock)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	_, err = fmt.Fscan(c, &pid)
	return pid, err
}

func newTestSupervisor(t *testing.T, p Process) *Supervisor {
	t.Helper()
	s, err := New(p, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func start(t *testing.T, s *Supervisor) int {
	t.Helper()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s.Status().PID
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 15 s for: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func alive(pid int) bool {
	_, _, err := procStat(pid)
	return err == nil
}

func TestSupervisor_StartStop_EndsTheProcess(t *testing.T) {
	dir := t.TempDir()
	s := newTestSupervisor(t, testProcess(dir, ""))
	pid := start(t, s)
	if got, err := ask(t.Context(), filepath.Join(dir, "s")); err != nil || got != pid {
		t.Fatalf("child answers pid %d, %v; want %d", got, err, pid)
	}
	if st := s.Status(); st.State != StateReady || st.Adopted {
		t.Fatalf("status %+v, want ready and not adopted", st)
	}
	waitFor(t, "last lines", func() bool { return len(s.Status().Lines) == 1 })
	if line := s.Status().Lines[0]; !strings.HasSuffix(line, "HOME=") {
		t.Errorf("line %q: the child inherited HOME", line)
	}
	for range 2 {
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if alive(pid) || s.Status().State != StateStopped {
		t.Errorf("after Stop: alive %v, status %+v", alive(pid), s.Status())
	}
	if start(t, s) == pid {
		t.Error("second Start gave the stopped pid")
	}
}

func TestSupervisor_FirstStartFails_ReturnsLastLines(t *testing.T) {
	s := newTestSupervisor(t, testProcess(t.TempDir(), "exit"))
	err := s.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "frobnicator") {
		t.Fatalf("error %v, want exit status and last line", err)
	}
}

func TestSupervisor_NeverReady_StartEndsWithContext(t *testing.T) {
	p := testProcess(t.TempDir(), "")
	p.Ready = func(context.Context) error { return errors.New("no answer") }
	s := newTestSupervisor(t, p)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := s.Start(ctx); err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Fatalf("error %v, want the probe's", err)
	}
	if _, ok := findLeftover(p.PIDFile, p.Marker); ok {
		t.Error("the child that never got ready lives on")
	}
}

func TestSupervisor_Crash_RestartsAndCounts(t *testing.T) {
	s := newTestSupervisor(t, testProcess(t.TempDir(), ""))
	pid := start(t, s)
	for n := 1; n <= 3; n++ {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "restart", func() bool { st := s.Status(); return st.State == StateReady && st.Restarts == n })
		st := s.Status()
		if st.PID == pid || !strings.Contains(st.LastExit, "SIGKILL") {
			t.Fatalf("status %+v after killing %d", st, pid)
		}
		pid = st.PID
	}
}

func TestSupervisor_Hung_IsKilledAndRestarted(t *testing.T) {
	dir := t.TempDir()
	s := newTestSupervisor(t, testProcess(dir, ""))
	pid := start(t, s)
	hang := filepath.Join(dir, "s.hang")
	if err := os.WriteFile(hang, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "kill of the hung child", func() bool { return !alive(pid) })
	if err := os.Remove(hang); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "restart", func() bool { st := s.Status(); return st.State == StateReady && st.Restarts == 1 })
	if got := s.Status().LastExit; got == "" {
		t.Error("no reason kept")
	}
}

func TestSupervisor_ServerKilled_NextOneAdopts(t *testing.T) {
	dir := t.TempDir()
	server := exec.Command("/proc/self/exe")
	server.Env = []string{"SUPERVISE_TEST_ROLE=supervise", "SUPERVISE_TEST_DIR=" + dir}
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	if err := server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = server.Wait() // killed on purpose
	if !alive(pid) {
		t.Fatal("the child died with its server")
	}
	// Killed between the start and the PID file: found by its marker alone.
	if err := os.Remove(filepath.Join(dir, "run", "helper.pid")); err != nil {
		t.Fatal(err)
	}
	s := newTestSupervisor(t, testProcess(dir, ""))
	if got := start(t, s); got != pid || !s.Status().Adopted {
		t.Fatalf("pid %d, status %+v; want pid %d adopted", got, s.Status(), pid)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "restart of the adopted", func() bool { st := s.Status(); return st.State == StateReady && st.PID != pid })
}

func TestSupervisor_Release_KeepsChildAndAdoptsAgain(t *testing.T) {
	p := testProcess(t.TempDir(), "")
	first := newTestSupervisor(t, p)
	pid := start(t, first)
	first.Release()
	second := newTestSupervisor(t, p)
	if got := start(t, second); got != pid {
		t.Fatalf("pid %d, want %d adopted", got, pid)
	}
	if len(second.Status().Lines) == 0 {
		t.Error("an adopting supervisor does not know the last lines")
	}
	if err := second.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if alive(pid) {
		t.Error("adopted child survived Stop")
	}
}

func TestSupervisor_ChangedConfiguration_ReplacesLeftover(t *testing.T) {
	p := testProcess(t.TempDir(), "")
	first := newTestSupervisor(t, p)
	pid := start(t, first)
	first.Release()
	p.Config = []byte("limit = 2")
	second := newTestSupervisor(t, p)
	if got := start(t, second); got == pid || alive(pid) {
		t.Fatalf("pid %d, old one %d alive %v; want it replaced", got, pid, alive(pid))
	}
}

func TestSupervisor_StalePIDFile_LeavesTheStrangerAlone(t *testing.T) {
	p := testProcess(t.TempDir(), "")
	stranger := exec.Command("/proc/self/exe")
	stranger.Env = append(p.Env, MarkerEnv+"=somebody else")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stranger.Process.Kill(); _ = stranger.Wait() })
	if err := os.MkdirAll(filepath.Dir(p.PIDFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := writePIDFile(p.PIDFile, stranger.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if err := StopLeftover(t.Context(), p.PIDFile, p.Marker, time.Second); err != nil {
		t.Fatal(err)
	}
	if !alive(stranger.Process.Pid) {
		t.Fatal("a process without our marker was ended")
	}
	if _, err := os.Stat(p.PIDFile); err == nil {
		t.Error("stale PID file still there")
	}
}

func TestStopLeftover_IgnoresTERM_IsKilledAfterGrace(t *testing.T) {
	p := testProcess(t.TempDir(), "stubborn")
	s := newTestSupervisor(t, p)
	pid := start(t, s)
	s.Release()
	begin := time.Now()
	if err := StopLeftover(t.Context(), p.PIDFile, p.Marker, 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if alive(pid) || time.Since(begin) < 200*time.Millisecond {
		t.Errorf("alive %v after %s", alive(pid), time.Since(begin))
	}
}

func TestTail_LogRotatedBeyondLimit_KeepsLinesAndOldFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var got int
	tl := newTail(path, 1000, 3, func(string) { got++ })
	for i := range 500 {
		if _, err := f.WriteString("line " + strconv.Itoa(i) + "\n"); err != nil {
			t.Fatal(err)
		}
		tl.poll()
	}
	if lines := tl.lines(); got != 500 || len(lines) != 3 || lines[2] != "line 499" {
		t.Errorf("emitted %d of 500, last lines %q", got, lines)
	}
	for _, name := range []string{path, path + ".1"} {
		info, err := os.Stat(name)
		if err != nil || info.Size() > 1100 {
			t.Errorf("%s: %v, %v; want at most about 1,000 bytes", name, info, err)
		}
	}
}
