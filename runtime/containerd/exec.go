package containerd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

const (
	// lastOutput is how long output is waited for after the command's end: something
	// that it left in the background may hold the pipe for ever.
	lastOutput = 2 * time.Second

	cannotRun = 127 // a shell's code for a command that is not there
)

// Exec implements driver.Driver. The command gets the instance's user, limits,
// environment and restrictions. When ctx ends it is killed.
func (d *Driver) Exec(ctx context.Context, id string, r paas.ExecRequest) (int, error) {
	code, err := d.exec(inNamespace(ctx), id, r)
	if err != nil {
		return 0, fmt.Errorf("run a command in instance %s: %w", id, mapped(err))
	}
	return code, nil
}

func (d *Driver) exec(ctx context.Context, id string, r paas.ExecRequest) (int, error) {
	if len(r.Args) == 0 {
		return 0, errors.New("the command is empty")
	}
	t, spec, err := d.runningTask(ctx, id)
	if err != nil {
		return 0, err
	}
	spec.Args, spec.Terminal = r.Args, r.TTY
	if r.TTY {
		spec.Env = append(spec.Env, "TERM=xterm-256color")
	}
	in := &input{r: r.Stdin, ended: make(chan struct{})}
	p, err := t.Exec(ctx, "exec-"+rand.Text(), spec, cio.NewCreator(d.streams(in, r)...))
	if err != nil {
		return 0, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
		defer cancel()
		if _, err := p.Delete(ctx, client.WithProcessKill); err != nil {
			d.cfg.Log.Debug("an ended command could not be deleted", "instance", id, "err", err)
		}
	}()
	exited, err := p.Wait(ctx)
	if err != nil {
		return 0, err
	}
	if err := p.Start(ctx); err != nil {
		return unstartable(err, r)
	}
	return attend(ctx, p, in, r, exited)
}

// attend feeds a started command until it ends.
func attend(ctx context.Context, p client.Process, in *input, r paas.ExecRequest, exited <-chan client.ExitStatus) (int, error) {
	inputEnded, resize := in.ended, r.Resize
	for {
		select {
		case <-inputEnded:
			inputEnded = nil
			p.CloseIO(ctx, client.WithStdinCloser) // fails if it ended meanwhile; exited says so
		case size, ok := <-resize:
			if !ok {
				resize = nil
				continue
			}
			p.Resize(ctx, uint32(size.Cols), uint32(size.Rows)) // a window of the wrong size is no failure
		case st := <-exited:
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			if err := st.Error(); err != nil {
				return 0, err
			}
			flush(p)
			return int(st.ExitCode()), nil
		case <-ctx.Done():
			return 0, ctx.Err() // the deferred Delete kills it
		}
	}
}

func flush(p client.Process) {
	done := make(chan struct{})
	go func() {
		p.IO().Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(lastOutput):
		p.IO().Cancel()
	}
}

// unstartable tells the user's mistake (no such program) from ours.
func unstartable(err error, r paas.ExecRequest) (int, error) {
	for _, s := range []string{"executable file not found", "no such file or directory", "permission denied"} {
		if !strings.Contains(err.Error(), s) {
			continue
		}
		w := r.Stderr
		if r.TTY || w == nil {
			w = r.Stdout
		}
		if w != nil {
			fmt.Fprintf(w, "%s: %s\n", r.Args[0], s)
		}
		return cannotRun, nil
	}
	return 0, err
}

func (d *Driver) streams(in *input, r paas.ExecRequest) []cio.Opt {
	out, errs := r.Stdout, r.Stderr
	if out == nil {
		out = io.Discard
	}
	if errs == nil {
		errs = io.Discard
	}
	var stdin io.Reader
	if r.Stdin != nil {
		stdin = in
	}
	opts := []cio.Opt{cio.WithFIFODir(filepath.Join(d.cfg.DataDir, "run", "fifo")), cio.WithStreams(stdin, out, errs)}
	if r.TTY {
		opts = append(opts, cio.WithTerminal)
	}
	return opts
}

func (d *Driver) runningTask(ctx context.Context, id string) (client.Task, *specs.Process, error) {
	seen, err := d.look(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if err := runs(seen); err != nil {
		return nil, nil, err
	}
	c, err := d.client.LoadContainer(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	spec, err := c.Spec(ctx)
	if err != nil {
		return nil, nil, err
	}
	t, err := c.Task(ctx, nil)
	return t, spec.Process, err
}

func runs(s sighting) error {
	if s.container == nil {
		return driver.ErrNotFound
	}
	if s.task == nil || s.task.Status != task.Status_RUNNING {
		return driver.ErrNotRunning
	}
	return nil
}

// input says when the caller's stdin is at its end.
type input struct {
	r     io.Reader
	once  sync.Once
	ended chan struct{}
}

func (i *input) Read(b []byte) (int, error) {
	n, err := i.r.Read(b)
	if err != nil {
		i.once.Do(func() { close(i.ended) })
	}
	return n, err
}

// Stats implements driver.Driver.
func (d *Driver) Stats(ctx context.Context, id string) (driver.Stats, error) {
	seen, err := d.look(inNamespace(ctx), id)
	if err == nil {
		err = runs(seen)
	}
	if err != nil {
		return driver.Stats{}, fmt.Errorf("stats of instance %s: %w", id, mapped(err))
	}
	st, err := d.cgroups.stats(id)
	if errors.Is(err, unix.ENOENT) {
		err = driver.ErrNotRunning // ended this moment
	}
	if err != nil {
		return driver.Stats{}, fmt.Errorf("stats of instance %s: %w", id, err)
	}
	return st, nil
}
