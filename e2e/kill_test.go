package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	slipway "github.com/slipway-paas/slipway/e2e/platform"
)

// defaultKills is the slice of `make test`; `make test-kill` sets SLIPWAY_KILLS.
const defaultKills = 60

// victims are the processes of reliability's kill matrix that run by name.
var victims = []string{"server", "router-1", "containerd", "buildkitd", "s3", "router-2"}

// TestKill_AnyProcessAtAnyPointOfADeploy kills one process per deployment, at
// points spread over it, and asks after each kill what a user would ask.
func TestKill_AnyProcessAtAnyPointOfADeploy(t *testing.T) {
	kills := defaultKills
	if s := os.Getenv("SLIPWAY_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("SLIPWAY_KILLS=%q is not a number", s)
		}
		kills = n
	}
	id := shared.InstallationID()
	before := shared.footprint(t, id)
	bystander := shared.destroyed(t, "bystander")
	shared.must(t, "deploy", answering("calm").dir(t), "--app", bystander)
	shared.must(t, "scale", "web=2", "-a", bystander)
	k := &killer{p: shared, app: shared.destroyed(t, "victim"), dir: t.TempDir(), seen: map[int64]bool{}}
	answering("version 0").writeTo(t, k.dir)
	began := time.Now()
	shared.must(t, "deploy", k.dir, "--app", k.app)
	length := time.Since(began) // of a deploy; the points are spread over a little more

	l := shared.startLoad(t, bystander, 50, false)
	var routerKills []time.Time
	for i := range kills {
		victim := victims[i%len(victims)]
		rounds := (kills + len(victims) - 1) / len(victims)
		at := time.Duration(float64(length) * 1.2 * float64(i/len(victims)) / float64(rounds))
		if killed := k.cycle(t, i+1, victim, at); strings.HasPrefix(victim, "router") {
			routerKills = append(routerKills, killed)
		}
		if t.Failed() {
			t.Fatalf("stopped after kill %d (%s at %s)", i+1, victim, at)
		}
	}
	l.end()
	if unexcused := excuseRouterKills(l.failures(), routerKills); len(unexcused) > 0 {
		t.Errorf("the bystander lost %d of %d requests:\n%s", len(unexcused), l.total.Load(), strings.Join(unexcused, "\n"))
	}
	t.Logf("%d kills, %d deployments, bystander: %d requests, %d in flight in a killed router, 0 others failed",
		kills, len(k.seen), l.total.Load(), len(l.failures()))

	k.olderReleasesStillStart(t)
	for _, app := range []string{k.app, bystander} {
		shared.must(t, "destroy", app, "--yes")
	}
	err := slipway.Until(60*time.Second, func() error {
		if left := extra(before, shared.footprint(t, id)); len(left) > 0 {
			return fmt.Errorf("left over after the kills:\n%s", strings.Join(left, "\n"))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// excuseRouterKills drops the failures that were in flight in a router when it
// was killed: cut connections within a moment of the kill, never an answer.
func excuseRouterKills(failures []string, kills []time.Time) []string {
	var left []string
next:
	for _, f := range failures {
		cut := strings.Contains(f, "EOF") || strings.Contains(f, "reset by peer") || strings.Contains(f, "broken pipe")
		for _, at := range kills {
			for _, d := range []time.Duration{-200 * time.Millisecond, -100 * time.Millisecond, 0, 100 * time.Millisecond, 200 * time.Millisecond} {
				if cut && strings.HasPrefix(f, at.Add(d).Format("15:04:05.000")[:10]) {
					continue next
				}
			}
		}
		left = append(left, f)
	}
	return left
}

// killer deploys one app again and again.
type killer struct {
	p    *platform
	app  string
	dir  string
	seen map[int64]bool // deployments that were acknowledged
	live string         // the text that the live release answers
}

// cycle deploys version n, kills the victim after the delay, waits for the end
// and checks what must hold. It returns the time of the kill.
func (k *killer) cycle(t *testing.T, n int, victim string, delay time.Duration) time.Time {
	t.Helper()
	text := fmt.Sprintf("version %d", n)
	answering(text).writeTo(t, k.dir)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := k.p.Command(ctx, "deploy", k.dir, "--app", k.app)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select { // the point of the kill is a time by design: it is what is varied
	case <-time.After(delay):
	case err := <-ended:
		ended <- err
	}
	killed := time.Now()
	k.kill(t, victim)
	<-ended
	if ctx.Err() != nil {
		t.Errorf("kill %d (%s after %s): the deploy had no end within 2 min:\n%s", n, victim, delay, out.String())
		return killed
	}
	k.check(t, fmt.Sprintf("kill %d (%s after %s)", n, victim, delay), text, cmd.ProcessState, out.String())
	return killed
}

// kill ends a process the hard way; the server is started again by us, as its
// service manager would.
func (k *killer) kill(t *testing.T, victim string) {
	t.Helper()
	if victim == "server" {
		k.p.SignalServer(syscall.SIGKILL)
		if err := k.p.StartServer(); err != nil {
			t.Fatal(err)
		}
		return
	}
	err := slipway.Until(20*time.Second, func() error { // it may just be on its way up from the last kill
		pid, err := k.p.PID(victim)
		if err != nil {
			return err
		}
		return syscall.Kill(pid, syscall.SIGKILL)
	})
	if err != nil {
		t.Fatalf("kill %s: %v", victim, err)
	}
}

// check asks what a user would ask after the kill.
func (k *killer) check(t *testing.T, what, text string, state *os.ProcessState, out string) {
	t.Helper()
	if err := k.p.WaitHealthy(30 * time.Second); err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	var last deployment
	err := slipway.Until(60*time.Second, func() error {
		var d struct{ Deployments []deployment }
		if err := k.tryJSON(&d, "deployments", "-a", k.app); err != nil {
			return err
		}
		have := map[int64]bool{}
		for _, x := range d.Deployments {
			have[x.ID] = true
			if x.State == "pending" || x.State == "rolling" {
				return fmt.Errorf("deployment %d has no end: %s", x.ID, x.State)
			}
			if x.State == "failed" && (x.Failure == nil || x.Failure.Message == "") {
				return fmt.Errorf("deployment %d failed without a reason", x.ID)
			}
		}
		for id := range k.seen {
			if !have[id] && len(d.Deployments) < 50 {
				return fmt.Errorf("deployment %d was acknowledged and is lost", id)
			}
		}
		if len(d.Deployments) == 0 {
			return fmt.Errorf("no deployment is listed")
		}
		k.seen[d.Deployments[0].ID] = true
		last = d.Deployments[0]
		return nil
	})
	if err != nil {
		t.Errorf("%s: %v\n%s", what, err, out)
		return
	}
	code := state.ExitCode()
	if code == 0 {
		k.live = text
	}
	if code != 0 && code != 1 && code != 3 {
		t.Errorf("%s: exit code %d\n%s", what, code, out)
	}
	if code == 0 && last.State == "failed" {
		t.Errorf("%s: the CLI said success, the deployment is %+v\n%s", what, last, out)
	}
	k.answers(t, what, code, text, out)
}

// answers checks that the app serves what the CLI told: the new version after a
// success; after anything else one version, whichever it is.
func (k *killer) answers(t *testing.T, what string, code int, text, out string) {
	t.Helper()
	err := slipway.Until(30*time.Second, func() error {
		status, body, err := k.p.Get(k.app, "/")
		if err != nil || status != 200 {
			return fmt.Errorf("the app answers %d %q %v", status, first(body), err)
		}
		if code == 0 && !strings.HasPrefix(body, text+" on ") {
			return fmt.Errorf("the app answers %q after a successful deploy of %q", body, text)
		}
		return nil
	})
	if err != nil {
		t.Errorf("%s: exit code %d, then %v\n%s", what, code, err, out)
	}
}

// olderReleasesStillStart goes back to the oldest release that is kept: neither
// its record nor its image was lost.
func (k *killer) olderReleasesStillStart(t *testing.T) {
	t.Helper()
	all := k.p.releases(t, k.app)
	oldest := all[len(all)-1]
	k.p.must(t, "rollback", strconv.Itoa(oldest.Number), "-a", k.app)
	k.p.wantBody(t, k.app, "/", "version ")
	for _, r := range k.p.releases(t, k.app) {
		if r.Live != (r.Number == oldest.Number) {
			t.Errorf("release %d: live = %t after the rollback to %d", r.Number, r.Live, oldest.Number)
		}
	}
}

func (k *killer) tryJSON(into any, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := k.p.Command(ctx, append(args, "--json")...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return fmt.Errorf("slipway %v: %w: %s", args, err, exit.Stderr)
		}
		return err
	}
	return decode(out, into)
}
