package containerd

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
	"github.com/slipway-paas/slipway/runtime/driver/drivertest"
)

// facts mirrors what the probe program tells.
type facts struct {
	UID, GID             int
	Groups               []int
	Status, Namespaces   map[string]string
	Env                  []string
	Hostname, Dir        string
	OpenFiles, CoreBytes uint64
	Init, Mounts, UIDMap string
}

var direct = http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func get(t *testing.T, addr, path string) string {
	t.Helper()
	res, err := direct.Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// runInside runs a word of the probe as a child of the serving app.
func runInside(t *testing.T, addr string, words ...string) string {
	t.Helper()
	return strings.TrimSpace(get(t, addr, "/run?"+url.Values{"a": words}.Encode()))
}

// outcomes reads "PATH: result" lines.
func outcomes(s string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(s) {
		if i := strings.LastIndex(line, ": "); i > 0 {
			out[line[:i]] = strings.TrimSpace(line[i+2:])
		}
	}
	return out
}

func TestContainerd_Restricted(t *testing.T) {
	m := newMachine(t)
	spec := m.Spec(drivertest.Serve...)
	spec.Env = append(spec.Env, "HOME=/u01/app", "TWICE=first", "TWICE=last")
	st := drivertest.MustStart(t, m.driver, spec)
	drivertest.WaitServing(t, st.Addr)
	other := drivertest.MustStart(t, m.driver, m.Spec(drivertest.Serve...))
	drivertest.WaitServing(t, other.Addr)
	var f, f2 facts
	for addr, into := range map[string]*facts{st.Addr: &f, other.Addr: &f2} {
		if err := json.Unmarshal([]byte(get(t, addr, "/facts")), into); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("user", func(t *testing.T) {
		if strings.Fields(f.UIDMap)[1] == "0" || f.UIDMap == f2.UIDMap {
			t.Errorf("IDs outside are not the instance's own: %q, other instance %q", f.UIDMap, f2.UIDMap)
		}
		if f.UID != uid || f.GID != gid || len(f.Groups) > 1 || len(f.Groups) == 1 && f.Groups[0] != gid {
			t.Errorf("uid %d gid %d groups %v", f.UID, f.GID, f.Groups)
		}
	})
	t.Run("privileges", func(t *testing.T) {
		for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
			if f.Status[set] != "0000000000000000" {
				t.Errorf("%s is %s", set, f.Status[set])
			}
		}
		if f.Status["NoNewPrivs"] != "1" || f.Status["Seccomp"] != "2" {
			t.Errorf("NoNewPrivs %s, Seccomp %s", f.Status["NoNewPrivs"], f.Status["Seccomp"])
		}
	})
	t.Run("namespaces", func(t *testing.T) {
		for ns, mine := range f.Namespaces {
			host, err := os.Readlink("/proc/self/ns/" + ns)
			if err != nil {
				t.Fatal(err)
			}
			if mine == host || mine == f2.Namespaces[ns] {
				t.Errorf("%s namespace %s is shared (host %s, other instance %s)", ns, mine, host, f2.Namespaces[ns])
			}
		}
	})
	t.Run("environment", func(t *testing.T) {
		want := []string{"PATH=/bin", "PORT=8080", "HOME=/u01/app", "TWICE=last", "HOSTNAME=" + spec.ID}
		if !slices.Equal(f.Env, want) || f.Hostname != spec.ID || f.Dir != paas.InstanceHome {
			t.Errorf("env %q, want %q; hostname %s, folder %s", f.Env, want, f.Hostname, f.Dir)
		}
		if f.Init != initInside+" /probe serve " {
			t.Errorf("process 1 is %q", f.Init)
		}
	})
	t.Run("limits", func(t *testing.T) { restrictedLimits(t, f) })
	t.Run("system calls", func(t *testing.T) { restrictedCalls(t, st.Addr) })
	t.Run("files", func(t *testing.T) { restrictedFiles(t, st.Addr) })
	t.Run("labels", func(t *testing.T) { restrictedLabels(t, m, spec) })
	t.Run("sockets", func(t *testing.T) {
		for _, word := range []string{".sock", "containerd", "buildkit", m.data + "/run/control"} {
			for line := range strings.Lines(f.Mounts) {
				if fields := strings.Fields(line); strings.Contains(fields[4], word) {
					t.Errorf("mounted inside: %s", line)
				}
			}
		}
	})
}

func restrictedLimits(t *testing.T, f facts) {
	want := rlimit("RLIMIT_NOFILE", 7, openFiles).Hard // 7 is RLIMIT_NOFILE
	if f.OpenFiles != want || f.CoreBytes != 0 {
		t.Errorf("open files %d (want %d), core %d bytes", f.OpenFiles, want, f.CoreBytes)
	}
}

func restrictedCalls(t *testing.T, addr string) {
	got := map[string]string{}
	if err := json.Unmarshal([]byte(runInside(t, addr, "syscalls")), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) < 60 {
		t.Errorf("only %d calls were tried", len(got))
	}
	for name, e := range got {
		if e != "EPERM" {
			t.Errorf("%s answered %s, want EPERM", name, e)
		}
	}
}

func restrictedFiles(t *testing.T, addr string) {
	check := func(want *regexp.Regexp, word string, paths ...string) {
		t.Helper()
		got := outcomes(runInside(t, addr, append([]string{word}, paths...)...))
		for _, p := range paths {
			if !want.MatchString(got[p]) {
				t.Errorf("%s %s: %q, want %s", word, p, got[p], want)
			}
		}
	}
	ok := regexp.MustCompile(`^ok$`)
	check(regexp.MustCompile("EROFS|EACCES|EPERM|ENOENT"), "write", "/x", "/etc/x", "/u01/x", "/var/x", "/bin/x", "/probe", "/.slipway/init", "/proc/sys/kernel/hostname",
		"/proc/sysrq-trigger", "/sys/x", "/sys/fs/cgroup/x", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/proc/sys/net/ipv4/ip_forward", "/dev/x")
	check(regexp.MustCompile("EROFS"), "write", "/x", "/etc/x", "/var/x")
	check(ok, "write", "/u01/app/x", "/u01/app/package.json", "/tmp/x", "/dev/shm/x", "/dev/null", "/proc/1/fd/1", "/proc/1/fd/2")
	check(ok, "read", "/etc/hosts", "/etc/resolv.conf", "/proc/self/status", "/u01/app/package.json")
	// Masked: a file reads as empty, a folder has nothing in it.
	for _, p := range []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts", "/proc/kallsyms"} {
		if got := runInside(t, addr, "read", p); !regexp.MustCompile(`: (ok|ENOENT|EACCES|EPERM)$`).MatchString(got) {
			t.Errorf("%s", got)
		}
	}
	check(regexp.MustCompile("empty|ENOENT|EACCES"), "list", "/proc/acpi", "/proc/scsi", "/proc/asound", "/sys/firmware", "/sys/devices/virtual/powercap", "/sys/class/thermal")
	check(ok, "open-device", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
	check(regexp.MustCompile("EPERM|EACCES|ENOENT"), "open-device", "/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/fuse", "/dev/kvm", "/dev/net/tun", "/dev/loop0")
	check(regexp.MustCompile("EPERM|EACCES"), "mknod", "/tmp/null", "/u01/app/null")
}

func restrictedLabels(t *testing.T, m *machine, spec driver.Spec) {
	c, err := m.driver.client.ContainerService().Get(inNamespace(t.Context()), spec.ID)
	if err != nil {
		t.Fatal(err)
	}
	for k := range c.Labels {
		if !strings.HasPrefix(k, "slipway.") {
			t.Errorf("label %s came from elsewhere", k)
		}
	}
	if c.Labels[labelInstallation] != m.id {
		t.Errorf("installation %s", c.Labels[labelInstallation])
	}
}

func TestContainerd_Limits_HitOnlyTheOneInstance(t *testing.T) {
	m := newMachine(t)
	bystander := drivertest.MustStart(t, m.driver, m.Spec(drivertest.Serve...))

	t.Run("memory", func(t *testing.T) {
		spec := m.Spec("eat", "200")
		spec.MemoryBytes = 64 << 20
		drivertest.MustStart(t, m.driver, spec)
		st := drivertest.WaitExited(t, m.driver, spec.ID)
		if !st.OOMKilled || st.ExitCode != 137 || st.PeakMemory < 60<<20 || st.PeakMemory > 65<<20 {
			t.Errorf("got %+v", st)
		}
	})
	t.Run("processes", func(t *testing.T) {
		spec := m.Spec(drivertest.Serve...)
		spec.PIDs = 60
		st := drivertest.MustStart(t, m.driver, spec)
		drivertest.WaitServing(t, st.Addr)
		if got := runInside(t, st.Addr, "fork", "200"); !strings.Contains(got, "resource temporarily unavailable") && !strings.Contains(got, "exit status") {
			t.Errorf("a fork bomb under 60 processes: %s", got)
		}
	})
	t.Run("cpu", func(t *testing.T) {
		spec := m.Spec("flood", "3000")
		spec.CPUMillis = 100
		drivertest.MustStart(t, m.driver, spec)
		before, err := m.driver.Stats(t.Context(), spec.ID)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		time.Sleep(time.Second) // the measured interval
		after, err := m.driver.Stats(t.Context(), spec.ID)
		if err != nil {
			t.Fatal(err)
		}
		share := float64(after.CPUTime-before.CPUTime) / float64(time.Since(began))
		if share < 0.02 || share > 0.2 {
			t.Errorf("used %.2f of a core, the limit is 0.1", share)
		}
	})
	if got := drivertest.WaitServing(t, bystander.Addr); got == "" {
		t.Error("the bystander does not answer")
	}
}

func TestContainerd_Init_ReapsAndEndsEverything(t *testing.T) {
	m := newMachine(t)
	spec := m.Spec(drivertest.Serve...)
	st := drivertest.MustStart(t, m.driver, spec)
	drivertest.WaitServing(t, st.Addr)
	if got := runInside(t, st.Addr, "orphans", "30"); got != "left 0 zombies 0" {
		t.Errorf("got %q", got)
	}
	if got := runInside(t, st.Addr, "daemon"); got != "daemon true" {
		t.Errorf("got %q", got)
	}
	if err := m.driver.Stop(t.Context(), spec.ID, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	for _, p := range m.processes() {
		if strings.Contains(p, "daemon") {
			t.Errorf("left: %s", p)
		}
	}

	missing := m.Spec()
	missing.Command = []string{"no-such-program"}
	drivertest.MustStart(t, m.driver, missing)
	if st := drivertest.WaitExited(t, m.driver, missing.ID); st.ExitCode != 127 {
		t.Errorf("a command that is not there: %+v", st)
	}
}
