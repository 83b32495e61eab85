package router

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"time"
)

// Options configures a Router. The zero values of the optional fields work.
type Options struct {
	Name     string // required, stable over restarts, e.g. "router-1"
	Listen   string // required, host:port; port 0 takes a free one
	Control  string // required, path of the control socket, or an http:// URL without path
	StateDir string // required, made if absent: table.json, admin.sock; one router each

	// ReusePort lets several routers listen on one address, so that one can end while
	// the others take its connections. Any process of the same user can join then.
	ReusePort bool
	// DrainTimeout bounds how long requests and tunnels may go on after Run's context
	// has ended; 0 means 30 s.
	DrainTimeout time.Duration
	// FirstTableWait bounds how long a router with nothing saved holds back from
	// listening; 0 means 3 s. Afterwards it answers 503.
	FirstTableWait time.Duration
	Build          string       // version of the binary, for reports
	Log            *slog.Logger // nil discards; requests are logged at Debug
}

// Validate says what is missing, and fills in the defaults.
func (o *Options) Validate() error {
	if o.Name == "" {
		return errors.New("router: no name")
	}
	if _, _, err := net.SplitHostPort(o.Listen); err != nil {
		return fmt.Errorf("router: listen address %q: %w", o.Listen, err)
	}
	if !filepath.IsAbs(o.Control) && !strings.HasPrefix(o.Control, "http://") {
		return fmt.Errorf("router: control %q is neither an absolute path nor an http:// URL", o.Control)
	}
	if o.StateDir == "" {
		return errors.New("router: no state folder")
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = 30 * time.Second
	}
	if o.FirstTableWait == 0 {
		o.FirstTableWait = 3 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}
