package containerd

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

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
