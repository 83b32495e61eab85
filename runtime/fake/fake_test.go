package fake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
	"github.com/slipway-paas/slipway/runtime/driver/drivertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFake_KeepsTheContract(t *testing.T) {
	s := &drivertest.Subject{Image: paas.ImageRef("aprobeprobe22", 1), Spare: paas.ImageRef("aspareimage22", 2), Program: "/probe"}
	d := New(act)
	d.AddImage(s.Image, s.Spare)
	s.Driver, s.Reopen = d, func(*testing.T) driver.Driver { return d.Reopen() }
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	t.Cleanup(d.Close)
	drivertest.Run(t, s)
}

// act plays the words of the probe program.
func act(s driver.Spec) Behaviour {
	b := Behaviour{Exec: actExec, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, s.ID) })}
	switch s.Command[1] {
	case "exit":
		code, _ := strconv.Atoi(s.Command[2])
		b.Exit = &Exit{Code: code}
	case "ignore-term":
		b.IgnoreTERM = true
	case "wrong-port":
		b.NoListen, b.ListenOn = true, []string{"127.0.0.1:3000"}
	}
	return b
}

func actExec(_ context.Context, _ driver.Spec, r paas.ExecRequest) (int, error) {
	switch r.Args[1] {
	case "cat":
		_, err := io.Copy(r.Stdout, r.Stdin)
		return 0, err
	case "tty":
		word := map[bool]string{true: "tty\n", false: "no tty\n"}[r.TTY]
		_, err := io.WriteString(r.Stdout, word)
		return 0, err
	case "exit":
		return strconv.Atoi(r.Args[2])
	}
	return 127, nil
}

func TestFake_ScriptedFailures(t *testing.T) {
	s := drivertest.Subject{Image: "i", Program: "/probe"}
	d := New(nil)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	t.Cleanup(d.Close)
	d.AddImage("i")
	boom := errors.New("boom")

	d.FailStart(boom)
	if _, err := d.Start(t.Context(), s.Spec("serve")); !errors.Is(err, boom) {
		t.Errorf("start: got %v", err)
	}
	d.FailStart(nil)
	d.FailList(boom)
	if _, err := d.List(t.Context()); !errors.Is(err, boom) {
		t.Errorf("list: got %v", err)
	}
	d.FailList(nil)

	d.SetBehave(func(driver.Spec) Behaviour {
		return Behaviour{Handler: Answer(500), ListenDelay: time.Millisecond, Exit: &Exit{After: time.Hour}}
	})
	sick := s.Spec("serve")
	st := drivertest.MustStart(t, d, sick)
	drivertest.Eventually(t, "the late port answers 500", func() bool {
		res, err := http.Get("http://" + st.Addr)
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == 500
	})
	d.Exit(sick.ID, 7)
	if got := drivertest.WaitExited(t, d, sick.ID); got.ExitCode != 7 {
		t.Errorf("got %+v", got)
	}

	d.SetBehave(func(driver.Spec) Behaviour { return Behaviour{Exit: &Exit{OOM: true}} })
	fat := s.Spec("serve")
	drivertest.MustStart(t, d, fat)
	if got := drivertest.WaitExited(t, d, fat.ID); !got.OOMKilled || got.ExitCode != 137 || got.PeakMemory != fat.MemoryBytes {
		t.Errorf("got %+v", got)
	}
	if got := d.Starts(); len(got) != 2 || got[0] != sick.ID {
		t.Errorf("starts: %v", got)
	}
}
