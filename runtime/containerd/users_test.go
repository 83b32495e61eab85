package containerd

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/slipway-paas/slipway/runtime/driver"
	"github.com/slipway-paas/slipway/runtime/driver/drivertest"
)

func TestContainerd_ClosedFolder_RunsWithoutUserNamespaceAndSaysWhy(t *testing.T) {
	m := newMachine(t)
	if err := os.Chmod(m.data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := canIsolateUsers(m.driver.cfg); err == nil || !strings.Contains(err.Error(), m.data+" has mode 0700") {
		t.Errorf("got %v", err)
	}
	d := m.open(t, nil)
	spec := m.Spec(drivertest.Serve...)
	st := drivertest.MustStart(t, d, spec)
	drivertest.WaitServing(t, st.Addr)
	var f facts
	if err := json.Unmarshal([]byte(get(t, st.Addr, "/facts")), &f); err != nil {
		t.Fatal(err)
	}
	if f.UID != uid || f.Status["CapBnd"] != "0000000000000000" || f.Status["Seccomp"] != "2" {
		t.Errorf("the other restrictions: %+v", f)
	}
	if got := runInside(t, st.Addr, "write", "/u01/app/x", "/proc/1/fd/1"); got != "/u01/app/x: ok\n/proc/1/fd/1: ok" {
		t.Error(got)
	}
}

func TestContainerd_DownWithoutContainerd_EndsEverything(t *testing.T) {
	m := newMachine(t)
	specs := []driver.Spec{m.Spec(drivertest.Serve...), m.Spec(drivertest.IgnoreTERM...)}
	for _, s := range specs {
		drivertest.WaitServing(t, drivertest.MustStart(t, m.driver, s).Addr)
	}
	m.killDaemon(t)
	for range 2 {
		if err := Down(t.Context(), m.driver.cfg); err != nil {
			t.Fatal(err)
		}
	}
	drivertest.Eventually(t, "no process is left", func() bool { return len(m.processes()) == 0 })
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), m.data) {
		t.Errorf("mounts are left: %v", err)
	}
	if got := m.driver.cgroups.ids(); len(got) > 0 {
		t.Errorf("cgroups are left: %v", got)
	}
	m.startDaemon(t)
	for _, s := range specs {
		if st := drivertest.WaitExited(t, m.driver, s.ID); st.ExitCode != lostCode {
			t.Errorf("after a new start: %+v", st)
		}
	}
}
