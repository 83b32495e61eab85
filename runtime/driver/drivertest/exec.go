package drivertest

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

func execStreams(t *testing.T, s *Subject) {
	spec := s.Spec(Serve...)
	MustStart(t, s.Driver, spec)
	in := strings.Repeat("line of input\n", 10_000)
	var out bytes.Buffer
	code, err := s.Driver.Exec(t.Context(), spec.ID, paas.ExecRequest{
		Args: append([]string{s.Program}, Cat...), Stdin: strings.NewReader(in), Stdout: &out, Stderr: io.Discard,
	})
	if err != nil || code != 0 || out.String() != in {
		t.Errorf("cat: code %d, %v, %d of %d bytes", code, err, out.Len(), len(in))
	}
	code, err = s.Driver.Exec(t.Context(), spec.ID, paas.ExecRequest{Args: append([]string{s.Program}, ExitWith(4)...)})
	if err != nil || code != 4 {
		t.Errorf("exit 4: code %d, %v", code, err)
	}
}

func execTTY(t *testing.T, s *Subject) {
	spec := s.Spec(Serve...)
	MustStart(t, s.Driver, spec)
	for _, tty := range []bool{true, false} {
		var out bytes.Buffer
		code, err := s.Driver.Exec(t.Context(), spec.ID, paas.ExecRequest{Args: append([]string{s.Program}, TTY...), TTY: tty, Stdout: &out})
		want := map[bool]string{true: "tty", false: "no tty"}[tty]
		if got := strings.TrimSpace(out.String()); err != nil || code != 0 || got != want {
			t.Errorf("TTY %v: code %d, %v, said %q, want %q", tty, code, err, got, want)
		}
	}
}

func execErrors(t *testing.T, s *Subject) {
	r := paas.ExecRequest{Args: append([]string{s.Program}, ExitWith(0)...)}
	if _, err := s.Driver.Exec(t.Context(), "probe-999999-1-0", r); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("unknown: got %v, want ErrNotFound", err)
	}
	spec := s.Spec(ExitWith(0)...)
	MustStart(t, s.Driver, spec)
	WaitExited(t, s.Driver, spec.ID)
	if _, err := s.Driver.Exec(t.Context(), spec.ID, r); !errors.Is(err, driver.ErrNotRunning) {
		t.Errorf("exited: got %v, want ErrNotRunning", err)
	}
}
