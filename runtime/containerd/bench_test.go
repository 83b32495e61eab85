package containerd

import (
	"context"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-paas/slipway/runtime/driver"
	"github.com/slipway-paas/slipway/runtime/driver/drivertest"
)

// BenchmarkStart times one instance to its first answer against a bare `ctr run`
// of the same image in the same containerd, and ten instances at once.
func BenchmarkStart(b *testing.B) {
	m := newMachine(b)
	start := func(s driver.Spec) {
		st, err := m.driver.Start(b.Context(), s)
		if err != nil {
			b.Error(err)
			return
		}
		drivertest.WaitServing(b, st.Addr)
	}
	stop := func(specs ...driver.Spec) {
		var g errgroup.Group
		for _, s := range specs {
			g.Go(func() error { return m.driver.Stop(context.Background(), s.ID, time.Second) })
		}
		if err := g.Wait(); err != nil {
			b.Error(err)
		}
	}
	b.Run("one", func(b *testing.B) {
		for range b.N {
			s := m.Spec(drivertest.Serve...)
			start(s)
			b.StopTimer()
			stop(s)
			b.StartTimer()
		}
	})
	b.Run("ctr-run", func(b *testing.B) {
		for i := range b.N {
			cmd := exec.Command(filepath.Join(m.engine, "ctr"), "-a", m.path("c.sock"), "-n", namespace, "run", "--rm",
				"--runc-binary", filepath.Join(m.engine, "runc"), "--runc-root", m.path("run", "runc-ctr"),
				"--cgroup", "/slipway-"+m.id+"/ctr"+strconv.Itoa(i), m.Image, "ctr"+strconv.Itoa(i), "/probe", "exit", "0")
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
		}
	})
	b.Run("ten-at-once", func(b *testing.B) {
		for range b.N {
			specs := make([]driver.Spec, 10)
			var g errgroup.Group
			for i := range specs {
				specs[i] = m.Spec(drivertest.Serve...)
				g.Go(func() error { start(specs[i]); return nil })
			}
			g.Wait()
			b.StopTimer()
			stop(specs...)
			b.StartTimer()
		}
	})
}
