package containerd

import (
	"os"
	"strings"
	"testing"

	"github.com/slipway-paas/slipway/runtime/driver"
	"github.com/slipway-paas/slipway/runtime/driver/drivertest"
)

func TestContainerd_DownWithoutContainerd_EndsEverything(t *testing.T) {
	m := newMachine(t)
	specs := []driver.Spec{m.Spec(drivertest.Serve...), m.Spec(drivertest.IgnoreTERM...)}
	for _, s := range specs {
		drivertest.WaitServing(t, drivertest.MustStart(t, m.driver, s).Addr)
	}
	m.killDaemon(t)
	for range 2 {
		if err := EndShims(t.Context(), m.path("c.sock"), m.path("state")); err != nil {
			t.Fatal(err)
		}
		if err := Down(t.Context(), m.id, m.data); err != nil {
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
