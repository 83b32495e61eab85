package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	installHint   = "install it with: deploy/install.sh --test"
	postgresStart = 60 * time.Second
	postgresStop  = 10 * time.Second
)

// Postgres is a PostgreSQL server of the test's own: a fresh data folder, a unix
// socket and no TCP port. It dies with the test process.
type Postgres struct {
	bin  string
	dir  string
	cred *syscall.Credential // nil: as we are
	cmd  *exec.Cmd
	done chan struct{} // closed when the server has ended
	last atomic.Int64  // number of the newest database
}

// StartPostgres installs and starts a server and waits until it answers. The
// caller stops it. An error says what to install when there is no PostgreSQL.
func StartPostgres(ctx context.Context) (*Postgres, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // the pattern is right
	if len(found) == 0 {
		return nil, errors.New("no PostgreSQL server below /usr/lib/postgresql; " + installHint)
	}
	cred, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "slipway-pg-")
	if err != nil {
		return nil, err
	}
	p := &Postgres{bin: filepath.Dir(found[len(found)-1]), dir: dir, cred: cred, done: make(chan struct{})}
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// Database makes an empty database and returns its address.
func (p *Postgres) Database(ctx context.Context) (dsn string, err error) {
	name := fmt.Sprintf("test%d", p.last.Add(1))
	if out, err := p.command(ctx, "createdb", "-h", p.dir, "-U", "slipway", name).CombinedOutput(); err != nil {
		return "", fmt.Errorf("createdb: %w: %s", err, out)
	}
	q := url.Values{"host": {p.dir}, "user": {"slipway"}, "sslmode": {"disable"}}
	return "postgres:///" + name + "?" + q.Encode(), nil
}

// Stop ends the server, waits for it and removes its folder.
func (p *Postgres) Stop() error {
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(syscall.SIGINT) // fast shutdown; it may have ended
		select {
		case <-p.done:
		case <-time.After(postgresStop):
			_ = p.cmd.Process.Kill()
			<-p.done
		}
	}
	return os.RemoveAll(p.dir)
}

func (p *Postgres) start(ctx context.Context) error {
	if p.cred != nil {
		if err := os.Chown(p.dir, int(p.cred.Uid), int(p.cred.Gid)); err != nil {
			return err
		}
	}
	data := filepath.Join(p.dir, "data")
	initdb := p.command(ctx, "initdb", "-D", data, "-U", "slipway", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	var output bytes.Buffer // read after done only
	cmd := p.command(context.WithoutCancel(ctx), "postgres", "-D", data, "-k", p.dir, "-c", "listen_addresses=",
		"-c", "fsync=off", "-c", "max_connections=300", "-c", "shared_buffers=32MB")
	cmd.Stdout, cmd.Stderr = &output, &output
	started := make(chan error)
	go func() {
		// The parent-death signal belongs to the thread that forks, so it must live on.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // what it said is in output
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	p.cmd = cmd
	return p.waitReady(ctx, &output)
}

func (p *Postgres) waitReady(ctx context.Context, output *bytes.Buffer) error {
	ctx, cancel := context.WithTimeout(ctx, postgresStart)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if p.command(ctx, "pg_isready", "-q", "-h", p.dir).Run() == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("postgres ended at once: %s", output)
		case <-ctx.Done():
			return fmt.Errorf("postgres did not answer within %s", postgresStart)
		case <-tick.C:
		}
	}
}

// command runs one of the server's programs as the user that owns its folder:
// they refuse root.
func (p *Postgres) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, name), args...)
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "HOME=" + p.dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred, Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

// unprivileged is the user postgres, else nobody, when we are root.
func unprivileged() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, fmt.Errorf("no user to run PostgreSQL as: %w; %s", err, installHint)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
