package containerd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/containers"

	"github.com/slipway-paas/slipway/internal/logfile"
	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
	"github.com/slipway-paas/slipway/runtime/driver/drivertest"
)

func (m *machine) logLines(t *testing.T) []paas.LogLine {
	t.Helper()
	var out []paas.LogLine
	err := logfile.NewDir(m.path("logs", "apps")).Read(t.Context(), paas.LogQuery{App: "probe"}, func(l paas.LogLine) error {
		out = append(out, l)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestContainerd_DaemonKilled_InstancesAndLogsGoOn(t *testing.T) {
	m := newMachine(t)
	live, dead := m.Spec("lines"), m.Spec(drivertest.ExitWith(6)...)
	st := drivertest.MustStart(t, m.driver, live)
	drivertest.MustStart(t, m.driver, dead)
	drivertest.WaitServing(t, st.Addr)
	drivertest.WaitExited(t, m.driver, dead.ID)

	m.killDaemon(t)
	if _, err := m.driver.List(t.Context()); err == nil {
		t.Error("List without containerd gave no error: unknown must not look like none")
	}
	drivertest.WaitServing(t, st.Addr)
	before := len(m.logLines(t))
	drivertest.Eventually(t, "50 more log lines without containerd", func() bool { return len(m.logLines(t)) >= before+50 })

	m.startDaemon(t)
	began := time.Now()
	drivertest.Eventually(t, "List works again", func() bool { _, err := m.driver.List(t.Context()); return err == nil })
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("List worked %v after containerd was back", took)
	}
	if got, ok := drivertest.Find(t, m.driver, live.ID); !ok || !got.Running || got.PID != st.PID || got.Addr != st.Addr {
		t.Errorf("the live one: %+v, want %+v", got, st)
	}
	if got, ok := drivertest.Find(t, m.driver, dead.ID); !ok || got.Running || got.ExitCode != 6 {
		t.Errorf("the exited one: %+v", got)
	}
	if again, err := m.driver.Start(t.Context(), live); err != nil || again.PID != st.PID {
		t.Errorf("start of what runs: %+v, %v", again, err)
	}
	if err := m.driver.Stop(t.Context(), live.ID, time.Second); err != nil {
		t.Fatal(err)
	}
	var want int
	for _, l := range m.logLines(t) {
		if l.Instance != live.ID || l.Stream != "stdout" {
			continue
		}
		if l.Text != fmt.Sprint("line ", want) || l.Release != live.Release || l.Slot != live.Slot {
			t.Fatalf("got %+v, want line %d: something is missing", l, want)
		}
		want++
	}
	if want < 100 {
		t.Errorf("only %d lines", want)
	}
}

func TestContainerd_DaemonKilledDuringStarts_NothingIsHalf(t *testing.T) {
	m := newMachine(t)
	for round := range 3 {
		specs := make([]driver.Spec, 4)
		var wg sync.WaitGroup
		for i := range specs {
			specs[i] = m.Spec(drivertest.Serve...)
			drivertest.MustStopAtEnd(t, m.driver, specs[i].ID)
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				m.driver.Start(ctx, specs[i]) // fails or not, depending on the moment
			})
		}
		drivertest.Eventually(t, "some cgroup appears", func() bool { return len(m.driver.cgroups.ids()) > round*4 })
		m.killDaemon(t)
		m.startDaemon(t)
		wg.Wait()
		for _, s := range specs {
			st, err := m.driver.Start(t.Context(), s)
			if err != nil {
				t.Fatalf("start again: %v", err)
			}
			if st.Running { // one that was lost with its shim is listed as exited: also right
				drivertest.WaitServing(t, st.Addr)
			}
		}
	}
}

func TestContainerd_ShimKilled_IsListedAsExitedAndStopCleansUp(t *testing.T) {
	m := newMachine(t)
	spec := m.Spec(drivertest.Serve...)
	st := drivertest.MustStart(t, m.driver, spec)
	drivertest.WaitServing(t, st.Addr)
	if err := syscall.Kill(m.parentOf(t, st.PID), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	got := drivertest.WaitExited(t, m.driver, spec.ID)
	if got.ExitCode != lostCode || got.StartedAt.IsZero() {
		t.Errorf("got %+v", got)
	}
	again, err := m.driver.Start(t.Context(), spec)
	if err != nil || again.Running || !again.ExitedAt.Equal(got.ExitedAt) {
		t.Errorf("start of a lost one: %+v, %v", again, err)
	}
	if err := m.driver.Stop(t.Context(), spec.ID, time.Second); err != nil {
		t.Fatal(err)
	}
	drivertest.Eventually(t, "nothing is left", func() bool { return len(m.remains(t)) == 0 })
}

func TestContainerd_ShimAndDaemonKilled_StopCleansUp(t *testing.T) {
	m := newMachine(t)
	spec := m.Spec(drivertest.IgnoreTERM...)
	st := drivertest.MustStart(t, m.driver, spec)
	drivertest.WaitServing(t, st.Addr)
	shim := m.parentOf(t, st.PID)
	m.killDaemon(t)
	if err := syscall.Kill(shim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	m.startDaemon(t)
	drivertest.WaitExited(t, m.driver, spec.ID)
	if err := m.driver.Stop(t.Context(), spec.ID, time.Second); err != nil {
		t.Fatal(err)
	}
	drivertest.Eventually(t, "nothing is left", func() bool { return len(m.remains(t)) == 0 })
}

func (m *machine) parentOf(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		t.Fatal(err)
	}
	rest := string(b[strings.LastIndexByte(string(b), ')')+2:])
	parent, err := strconv.Atoi(strings.Fields(rest)[1])
	if err != nil || parent <= 1 {
		t.Fatalf("parent of %d: %d, %v", pid, parent, err)
	}
	return parent
}

func TestContainerd_Sweep_RemovesWhatNobodyOwns(t *testing.T) {
	m := newMachine(t)
	live := m.Spec(drivertest.Serve...)
	st := drivertest.MustStart(t, m.driver, live)
	drivertest.WaitServing(t, st.Addr)

	// What starts that were cut off at different points leave behind.
	half := []driver.Spec{m.Spec(drivertest.Serve...), m.Spec(drivertest.Serve...), m.Spec(drivertest.Serve...)}
	ctx := inNamespace(t.Context())
	for i, s := range half {
		at, err := m.driver.net.Reserve(s.ID)
		if err == nil {
			err = m.driver.net.Attach(ctx, s.ID, at)
		}
		if err == nil && i > 0 {
			err = m.driver.writeFiles(s, at)
		}
		var layer string
		if err == nil && i > 1 {
			if layer, err = m.driver.rootFS(ctx, s.ImageRef); err == nil {
				_, err = m.driver.snapshot(ctx, s, at, layer)
			}
			if err == nil {
				c := m.driver.container(s, at)
				_, err = m.driver.client.ContainerService().Create(ctx, c)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// A container that somebody else made in the same namespace stays.
	foreign := containers.Container{ID: "foreign", Runtime: containers.RuntimeInfo{Name: runtimeName}}
	foreign.Spec = m.driver.runtime // any message will do
	if _, err := m.driver.client.ContainerService().Create(ctx, foreign); err != nil {
		t.Fatal(err)
	}
	defer m.driver.client.ContainerService().Delete(inNamespace(context.Background()), foreign.ID)

	if removed, err := m.driver.Sweep(t.Context(), time.Hour); err != nil || strings.Contains(fmt.Sprint(removed), half[2].ID) {
		t.Errorf("within the grace: %v, %v", removed, err)
	}
	removed, err := m.driver.Sweep(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range half[1:] {
		if !strings.Contains(fmt.Sprint(removed), s.ID) {
			t.Errorf("%s is not among %v", s.ID, removed)
		}
	}
	if removed, err := m.driver.Sweep(t.Context(), 0); err != nil || len(removed) > 0 {
		t.Errorf("a second sweep removed %v, %v", removed, err)
	}
	if _, err := m.driver.client.ContainerService().Get(ctx, foreign.ID); err != nil {
		t.Errorf("the foreign container: %v", err)
	}
	drivertest.WaitServing(t, st.Addr)
}

func TestContainerd_RemoveImage_KeepsARunningInstance(t *testing.T) {
	m := newMachine(t)
	spec := m.Spec(drivertest.Serve...)
	st := drivertest.MustStart(t, m.driver, spec)
	drivertest.WaitServing(t, st.Addr)
	for _, ref := range []string{m.Image, m.Spare} {
		if err := m.driver.RemoveImage(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
	}
	if got := runInside(t, st.Addr, "read", "/u01/app/package.json"); !strings.HasSuffix(got, "ok") {
		t.Errorf("after its image went: %s", got)
	}
}

func TestContainerd_Flood_NeitherBlocksTheAppNorFillsTheDisk(t *testing.T) {
	m := newMachine(t)
	spec := m.Spec("flood", "300")
	drivertest.MustStart(t, m.driver, spec)
	drivertest.WaitExited(t, m.driver, spec.ID)
	drivertest.Eventually(t, "the sink says what it dropped", func() bool {
		for _, l := range m.logLines(t) {
			if l.Stream == "slipway" && strings.Contains(l.Text, "dropped") {
				return true
			}
		}
		return false
	})
	var bytes int64
	files, _ := filepath.Glob(m.path("logs", "apps", "probe", spec.ID+".log*"))
	for _, f := range files {
		if st, err := os.Stat(f); err == nil {
			bytes += st.Size()
		}
	}
	if limit := int64(logfile.MaxFileBytes*logfile.KeepFiles) + 1<<20; bytes > limit || bytes == 0 {
		t.Errorf("%d bytes of log, at most %d are kept", bytes, limit)
	}
}
