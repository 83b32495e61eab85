package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Facts is what a process says about itself; the containerd tests read it.
type Facts struct {
	UID, GID   int
	Groups     []int
	Status     map[string]string // of /proc/self/status
	Namespaces map[string]string // name → "pid:[402…]"
	Env        []string
	Hostname   string
	Dir        string
	OpenFiles  uint64
	CoreBytes  uint64
	Init       string // command line of process 1
	Mounts     string
	UIDMap     string
}

func facts() Facts {
	f := Facts{UID: os.Getuid(), GID: os.Getgid(), Env: os.Environ(), Status: map[string]string{}, Namespaces: map[string]string{}}
	f.Groups, _ = os.Getgroups()
	f.Hostname, _ = os.Hostname()
	f.Dir, _ = os.Getwd()
	for line := range strings.Lines(read("/proc/self/status")) {
		if k, v, ok := strings.Cut(line, ":"); ok {
			f.Status[k] = strings.TrimSpace(v)
		}
	}
	for _, ns := range []string{"pid", "net", "ipc", "uts", "mnt", "cgroup", "user"} {
		f.Namespaces[ns], _ = os.Readlink("/proc/self/ns/" + ns)
	}
	var l unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	f.OpenFiles = l.Max
	unix.Getrlimit(unix.RLIMIT_CORE, &l)
	f.CoreBytes = l.Max
	f.Init = strings.ReplaceAll(read("/proc/1/cmdline"), "\x00", " ")
	f.Mounts, f.UIDMap = read("/proc/self/mountinfo"), read("/proc/self/uid_map")
	return f
}

func read(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// syscalls tries calls that no app may make, with arguments that do no harm if
// the filter is missing, and returns what each answered.
func syscalls() map[string]string {
	out := map[string]string{}
	for name, nr := range denied {
		_, _, e := syscall.RawSyscall6(nr, ^uintptr(0), 0, 0, 0, 0, 0)
		out[name] = errname(e)
	}
	return out
}

func errname(e syscall.Errno) string {
	if e == 0 {
		return "ok"
	}
	if n := unix.ErrnoName(e); n != "" {
		return n
	}
	return strconv.Itoa(int(e))
}

var denied = map[string]uintptr{
	"acct": unix.SYS_ACCT, "add_key": unix.SYS_ADD_KEY, "afs_syscall": unix.SYS_AFS_SYSCALL, "bpf": unix.SYS_BPF,
	"chroot": unix.SYS_CHROOT, "clock_settime": unix.SYS_CLOCK_SETTIME, "create_module": unix.SYS_CREATE_MODULE,
	"delete_module": unix.SYS_DELETE_MODULE, "fanotify_init": unix.SYS_FANOTIFY_INIT, "finit_module": unix.SYS_FINIT_MODULE,
	"fsconfig": unix.SYS_FSCONFIG, "fsmount": unix.SYS_FSMOUNT, "fsopen": unix.SYS_FSOPEN, "fspick": unix.SYS_FSPICK,
	"get_kernel_syms": unix.SYS_GET_KERNEL_SYMS, "getpmsg": unix.SYS_GETPMSG, "init_module": unix.SYS_INIT_MODULE,
	"io_uring_enter": unix.SYS_IO_URING_ENTER, "io_uring_register": unix.SYS_IO_URING_REGISTER, "io_uring_setup": unix.SYS_IO_URING_SETUP,
	"ioperm": unix.SYS_IOPERM, "iopl": unix.SYS_IOPL, "kexec_file_load": unix.SYS_KEXEC_FILE_LOAD, "kexec_load": unix.SYS_KEXEC_LOAD,
	"keyctl": unix.SYS_KEYCTL, "lookup_dcookie": unix.SYS_LOOKUP_DCOOKIE, "mbind": unix.SYS_MBIND, "migrate_pages": unix.SYS_MIGRATE_PAGES,
	"mount": unix.SYS_MOUNT, "mount_setattr": unix.SYS_MOUNT_SETATTR, "move_mount": unix.SYS_MOVE_MOUNT, "move_pages": unix.SYS_MOVE_PAGES,
	"nfsservctl": unix.SYS_NFSSERVCTL, "open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT, "open_tree": unix.SYS_OPEN_TREE,
	"perf_event_open": unix.SYS_PERF_EVENT_OPEN, "pivot_root": unix.SYS_PIVOT_ROOT, "putpmsg": unix.SYS_PUTPMSG,
	"query_module": unix.SYS_QUERY_MODULE, "quotactl": unix.SYS_QUOTACTL, "quotactl_fd": unix.SYS_QUOTACTL_FD, "reboot": unix.SYS_REBOOT,
	"request_key": unix.SYS_REQUEST_KEY, "security": unix.SYS_SECURITY, "set_mempolicy": unix.SYS_SET_MEMPOLICY,
	"set_mempolicy_home_node": unix.SYS_SET_MEMPOLICY_HOME_NODE, "setdomainname": unix.SYS_SETDOMAINNAME, "sethostname": unix.SYS_SETHOSTNAME,
	"setns": unix.SYS_SETNS, "settimeofday": unix.SYS_SETTIMEOFDAY, "swapoff": unix.SYS_SWAPOFF, "swapon": unix.SYS_SWAPON,
	"sysfs": unix.SYS_SYSFS, "syslog": unix.SYS_SYSLOG, "tuxcall": unix.SYS_TUXCALL, "umount2": unix.SYS_UMOUNT2, "unshare": unix.SYS_UNSHARE,
	"uselib": unix.SYS_USELIB, "userfaultfd": unix.SYS_USERFAULTFD, "ustat": unix.SYS_USTAT, "vhangup": unix.SYS_VHANGUP,
	"vserver": unix.SYS_VSERVER,
}
