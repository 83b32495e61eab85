package containerd

import (
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
	"github.com/slipway-paas/slipway/runtime/network"
)

const (
	// uid and gid of every app; the builder gives the app's files to them.
	uid, gid = 10001, 10001

	initInside = "/.slipway/init"

	openFiles  = 65536
	tmpSize    = "size=67108864" // of /tmp and /dev/shm: they count towards the memory limit
	cpuPeriod  = 100_000         // µs, the kernel's default
	oomScore   = 500             // apps die before the platform when the host is out of memory
	minQuota   = 1_000           // µs, the least that the kernel takes
	coreShares = 1024
)

// buildSpec is the whole OCI specification of an instance, from nothing: neither
// a default of containerd's nor anything of the image's configuration is in it.
// reliability.md §2.5 is the list that it follows row by row.
func (d *Driver) buildSpec(s driver.Spec, at network.Attachment) *specs.Spec {
	sp := &specs.Spec{
		Version:  specs.Version,
		Hostname: s.ID,
		Root:     &specs.Root{Path: "rootfs", Readonly: true},
		Process:  process(s),
		Mounts:   d.mounts(s.ID),
		Linux: &specs.Linux{
			CgroupsPath: d.cgroups.path(s.ID),
			Resources:   d.resources(s),
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
				{Type: specs.MountNamespace}, {Type: specs.CgroupNamespace}, {Type: specs.NetworkNamespace, Path: at.NetNS},
			},
			MaskedPaths: []string{
				"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kallsyms", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
				"/proc/sched_debug", "/proc/scsi", "/proc/slabinfo", "/proc/timer_list", "/proc/timer_stats", "/proc/vmallocinfo",
				"/sys/devices/virtual/powercap", "/sys/firmware", "/sys/class/thermal",
			},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	if at.UserNS != "" {
		sp.Linux.Namespaces = append(sp.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: at.UserNS})
		ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: at.FirstUID, Size: network.UserRange}}
		sp.Linux.UIDMappings, sp.Linux.GIDMappings = ids, ids
	}
	sp.Linux.Seccomp = seccomp.DefaultProfile(sp)
	return sp
}

func process(s driver.Spec) *specs.Process {
	score := oomScore
	return &specs.Process{
		Args:            append([]string{initInside}, s.Command...),
		Cwd:             paas.InstanceHome,
		Env:             environment(s),
		User:            specs.User{UID: uid, GID: gid},
		Capabilities:    &specs.LinuxCapabilities{}, // none in any set
		NoNewPrivileges: true,
		OOMScoreAdj:     &score,
		Rlimits: []specs.POSIXRlimit{
			rlimit("RLIMIT_NOFILE", unix.RLIMIT_NOFILE, openFiles),
			{Type: "RLIMIT_CORE"},
		},
	}
}

// rlimit is want, or the machine's hard limit where raising it is not allowed.
func rlimit(name string, which int, want uint64) specs.POSIXRlimit {
	var have unix.Rlimit
	if unix.Getrlimit(which, &have) == nil {
		want = min(want, have.Max)
	}
	return specs.POSIXRlimit{Type: name, Hard: want, Soft: want}
}

// environment keeps the last value of each name and adds HOSTNAME.
func environment(s driver.Spec) []string {
	at := map[string]int{}
	var out []string
	for _, e := range append(append([]string{}, s.Env...), "HOSTNAME="+s.ID) {
		name, _, _ := strings.Cut(e, "=")
		if i, ok := at[name]; ok {
			out[i] = e
			continue
		}
		at[name] = len(out)
		out = append(out, e)
	}
	return out
}

func (d *Driver) mounts(id string) []specs.Mount {
	safe := func(more ...string) []string { return append([]string{"nosuid", "nodev"}, more...) }
	file := func(inside, outside string) specs.Mount {
		return specs.Mount{Destination: inside, Type: "bind", Source: outside, Options: safe("bind", "ro")}
	}
	own := d.marks.folder(id)
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: safe("noexec")},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "strictatime", "mode=755", "size=65536"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: safe("noexec", "mode=1777", tmpSize)},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: safe("noexec")},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: safe("noexec", "ro")},
		// Language runtimes size themselves by what they read here.
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: safe("noexec", "relatime", "ro")},
		{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: safe("mode=1777", tmpSize)},
		// The root is mounted read-only; the app's own folder is the same file system
		// bound over itself, so it stays writable (relative to the bundle, where the
		// shim mounts the snapshot).
		{Destination: paas.InstanceHome, Type: "bind", Source: filepath.Join("rootfs", paas.InstanceHome), Options: safe("bind", "rw")},
		file(initInside, d.cfg.Init),
		file("/etc/hosts", filepath.Join(own, "hosts")),
		file("/etc/hostname", filepath.Join(own, "hostname")),
		file("/etc/resolv.conf", filepath.Join(own, "resolv.conf")),
	}
}

func (d *Driver) resources(s driver.Spec) *specs.LinuxResources {
	pids := s.PIDs
	if pids == 0 {
		pids = paas.DefaultPIDs
	}
	memory := s.MemoryBytes
	quota := max(int64(s.CPUMillis)*cpuPeriod/1000, minQuota)
	period, shares := uint64(cpuPeriod), max(uint64(s.CPUMillis)*coreShares/1000, 2)
	r := &specs.LinuxResources{
		Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}, // runc adds the harmless ones
		Memory:  &specs.LinuxMemory{Limit: &memory},
		CPU:     &specs.LinuxCPU{Quota: &quota, Period: &period, Shares: &shares},
		Pids:    &specs.LinuxPids{Limit: &pids},
	}
	if d.cgroups.limitsSwap() {
		r.Memory.Swap = &memory // memory and swap together: no swap
	}
	return r
}
