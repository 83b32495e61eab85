package base

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/slipway-paas/slipway/buildpacks/plan"
	"github.com/slipway-paas/slipway/internal/paas"
)

// suite is the Debian release of all bases.
const suite = "bookworm"

// epoch is the time of all files of a base (2025-01-01), so that the same
// packages make the same layer.
const epoch = 1735689600

// system is one root file system.
type system struct {
	name     string
	what     string // for people
	packages []string
}

var (
	runtimeSystem = system{"debian", "the Debian base image",
		[]string{"ca-certificates", "libatomic1", "libstdc++6", "netbase", "procps", "tzdata"}}
	toolchainSystem = system{"debian-build", "the Debian image with compilers",
		append([]string{"g++", "git", "libpython3-stdlib", "make", "pkg-config", "python3-distutils", "python3-minimal"}, runtimeSystem.packages...)}
)

// key changes with the recipe, not with the mirror it is fetched from.
func (s system) key() string {
	sum := plan.KeyOf(s.packages, suite, epoch, mmdebstrapArgs(), customize)
	return s.name + "-" + strings.TrimPrefix(sum, "sha256:")[:12]
}

// customize makes the user and folders that apps know from ACC.
var customize = fmt.Sprintf(`set -e
echo 'apaas:x:%[1]d:%[1]d::%[2]s:/bin/sh' >> "$1/etc/passwd"
echo 'apaas:x:%[1]d:' >> "$1/etc/group"
mkdir -p "$1%[2]s"
chown %[1]d:%[1]d "$1%[2]s"
rm -f "$1/etc/resolv.conf" "$1/etc/hostname"
rm -rf "$1/var/cache/debconf" "$1/var/log/apt" "$1/var/log/dpkg.log" "$1/var/log/alternatives.log"`, AppUID, paas.InstanceHome)

// AppUID owns the app's files in every image; its group has the same number.
const AppUID = 10001

func mmdebstrapArgs() []string {
	args := []string{"--quiet", "--mode=root", "--variant=essential", "--skip=output/dev",
		"--dpkgopt=force-unsafe-io"} // a crash leaves nothing that is used
	for _, p := range []string{"doc", "man", "info", "locale", "lintian"} {
		args = append(args, "--dpkgopt=path-exclude=/usr/share/"+p+"/*")
	}
	return append(args, "--dpkgopt=path-include=/usr/share/doc/*/copyright")
}

// makeSystem writes the root file system as a tar.
func (b *Bases) makeSystem(ctx context.Context, s system) error {
	out := b.tar(s.key())
	part := out + halfMade
	temp := filepath.Join(b.o.Dir, s.key()+halfMade) // named so that the lock on the key is its lock
	if err := errors.Join(removeTree(temp), os.Mkdir(temp, 0o700)); err != nil {
		return err
	}
	defer func() { _ = removeTree(temp) }() // the next start tries again
	hook := filepath.Join(temp, "customize")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\n"+customize+"\n"), 0o755); err != nil {
		return err
	}
	args := append(mmdebstrapArgs(), "--customize-hook="+hook, "--include="+strings.Join(s.packages, ","))
	if b.o.CAFile != "" {
		args = append(args, fmt.Sprintf("--aptopt=Acquire::https::CAInfo %q", b.o.CAFile))
	}
	// The format is guessed from the name, so the part must end in .tar as well.
	tarFile := filepath.Join(temp, "root.tar")
	args = append(args, suite, tarFile)
	args = append(args, b.sources()...)
	if err := run(ctx, temp, "mmdebstrap", args...); err != nil {
		return err
	}
	if err := os.Rename(tarFile, part); err != nil {
		return err
	}
	return publish(part, out)
}

// publish makes a finished file durable and gives it its name.
func publish(part, name string) error {
	f, err := os.Open(part)
	if err != nil {
		return err
	}
	err = f.Sync()
	f.Close()
	if err != nil {
		return err
	}
	return os.Rename(part, name)
}

// sources says where packages come from: the configured mirror, else what the
// host's apt uses, else mmdebstrap's own default.
func (b *Bases) sources() []string {
	if b.o.Mirror != "" {
		return []string{b.o.Mirror}
	}
	return hostSources("/etc/apt", "/etc/os-release")
}

// hostSources reads apt's configuration and returns lines for our suite from the
// mirrors that serve the host's own.
func hostSources(aptDir, osRelease string) []string {
	host := codename(osRelease)
	var lines []string
	seen := map[string]bool{}
	add := func(uri, hostSuite string) {
		pocket, ours := strings.CutPrefix(hostSuite, host)
		if !ours || pocket != "" && pocket != "-updates" && pocket != "-security" || host == "" || !strings.Contains(uri, "://") {
			return
		}
		line := fmt.Sprintf("deb %s %s%s main", uri, suite, pocket)
		if !seen[line] {
			seen[line] = true
			lines = append(lines, line)
		}
	}
	files, _ := filepath.Glob(filepath.Join(aptDir, "sources.list.d", "*"))
	for _, name := range append([]string{filepath.Join(aptDir, "sources.list")}, files...) {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // not there, or not for us
		}
		if strings.HasSuffix(name, ".sources") {
			deb822(text, add)
		} else {
			oneLine(text, add)
		}
	}
	return lines
}

func codename(osRelease string) string {
	text, _ := os.ReadFile(osRelease)
	for _, l := range strings.Split(string(text), "\n") {
		if v, ok := strings.CutPrefix(l, "VERSION_CODENAME="); ok {
			return strings.Trim(v, `"' `)
		}
	}
	return ""
}

// oneLine reads `deb [options] URI SUITE COMPONENT…`.
func oneLine(text []byte, add func(uri, suite string)) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 3 || f[0] != "deb" {
			continue
		}
		f = f[1:]
		for len(f) > 0 && (strings.HasPrefix(f[0], "[") || strings.HasSuffix(f[0], "]") || strings.Contains(f[0], "=")) {
			f = f[1:]
		}
		if len(f) >= 2 {
			add(f[0], f[1])
		}
	}
}

// deb822 reads paragraphs with URIs: and Suites:.
func deb822(text []byte, add func(uri, suite string)) {
	for _, para := range strings.Split(string(text), "\n\n") {
		field := map[string][]string{}
		for _, l := range strings.Split(para, "\n") {
			if name, v, ok := strings.Cut(l, ":"); ok && !strings.HasPrefix(l, "#") {
				field[strings.ToLower(name)] = strings.Fields(v)
			}
		}
		for _, s := range field["suites"] {
			for _, u := range field["uris"] {
				add(u, s)
			}
		}
	}
}

// maxOutput is how much of a failed command's output an error carries.
const maxOutput = 2000

// run runs a command that dies with this process.
func run(ctx context.Context, temp, name string, args ...string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return paas.Errorf(paas.CodeUnavailable, "%s is not installed on this machine", name).WithHint("apt-get install %s", name).WithCause(err)
	}
	// The command is the first process of a PID namespace: with it all that it began
	// ends, and what they mounted goes. Nobody cleans up after a SIGKILL.
	cmd := exec.CommandContext(ctx, "unshare", append([]string{"--mount", "--pid", "--fork", "--kill-child", "--mount-proc", path}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+temp, fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// Pdeathsig is sent when the starting thread ends, not the process: keep it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(out.String())
		if len(text) > maxOutput {
			text = "…" + text[len(text)-maxOutput:]
		}
		return fmt.Errorf("%s: %w: %s", name, err, text)
	}
	return nil
}
