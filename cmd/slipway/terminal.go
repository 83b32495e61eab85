package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/slipway-paas/slipway/internal/paas"
)

// rawTerminal hands every key to the remote side and reports the size now and
// at each change, until ctx ends. restore gives the terminal back.
func rawTerminal(ctx context.Context, fd int) (restore func(), sizes <-chan paas.TermSize, err error) {
	state, err := term.MakeRaw(fd)
	if err != nil {
		return nil, nil, err
	}
	ch := make(chan paas.TermSize, 1)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGWINCH)
	ctx, stop := context.WithCancel(ctx)
	go func() {
		defer close(ch)
		for {
			if cols, rows, err := term.GetSize(fd); err == nil {
				select {
				case ch <- paas.TermSize{Cols: uint16(cols), Rows: uint16(rows)}:
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-signals:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		stop()
		signal.Stop(signals)
		_ = term.Restore(fd, state) // the process ends next; nothing to do about it
	}, ch, nil
}
