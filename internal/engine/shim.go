package engine

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"golang.org/x/sys/unix"
)

// shimRefresh: a shim may be born after the sweep that its dead client caused;
// nothing is to be left over after a minute.
const shimRefresh = 20 * time.Second

// sweepShims kills the shims of containers that do not exist: containerd forgets
// one when its client dies while the container is being made. Every client
// records the container before its shim starts and deletes it after the shim's
// end, so a shim listed before the containers and not among them is nobody's.
func (e *Engine) sweepShims(ctx context.Context) error {
	if e.cfg.ContainerdAddress != "" {
		return nil
	}
	found := shims(e.addr.Containerd)
	if len(found) == 0 {
		return nil
	}
	client, err := containerd.New(e.addr.Containerd, containerd.WithTimeout(2*time.Second))
	if err != nil {
		return nil // not running: it cannot say whose they are
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(ctx, Namespace), 10*time.Second)
	defer cancel()
	list, err := client.Containers(ctx)
	if err != nil {
		return fmt.Errorf("list containers of shims: %w", err)
	}
	for _, c := range list {
		delete(found, c.ID())
	}
	for id, pid := range found {
		e.cfg.Log.Warn("killing shim without a container", "container", id, "pid", pid)
		_ = unix.Kill(pid, unix.SIGKILL) // gone already is fine
		for _, d := range []string{"state", "root"} {
			bundle := e.dir("containerd", d, "io.containerd.runtime.v2.task", Namespace, id)
			if err := unmountBelow(bundle); err != nil {
				return err
			}
			if err := os.RemoveAll(bundle); err != nil {
				return err
			}
		}
	}
	return nil
}

// shims returns the containers' ids and pids of the shims that serve the
// containerd at this socket.
func shims(socket string) map[string]int {
	found := map[string]int{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return found
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue // ended meanwhile
		}
		var args []string
		for _, a := range bytes.Split(data, []byte{0}) {
			args = append(args, string(a))
		}
		if filepath.Base(args[0]) != "containerd-shim-runc-v2" || option(args, "-address") != socket {
			continue
		}
		if id := option(args, "-id"); id != "" {
			found[id] = pid
		}
	}
	return found
}

func option(args []string, name string) string {
	if i := slices.Index(args, name); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}
