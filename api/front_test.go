package api_test

import (
	"net"
	"net/http"
	"testing"
)

// front serves a handler on an address that stays while its server is killed and
// comes back.
type front struct {
	t    *testing.T
	h    http.Handler
	addr string
	url  string
	srv  *http.Server
	done chan struct{}
}

func newFront(t *testing.T, h http.Handler) *front {
	f := &front{t: t, h: h, addr: "127.0.0.1:0"}
	f.revive()
	t.Cleanup(f.kill)
	return f
}

func (f *front) revive() {
	f.t.Helper()
	l, err := net.Listen("tcp", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	f.addr = l.Addr().String()
	f.url = "http://" + f.addr
	f.srv, f.done = &http.Server{Handler: f.h}, make(chan struct{})
	go func(srv *http.Server, done chan struct{}) {
		defer close(done)
		_ = srv.Serve(l) // ends with kill
	}(f.srv, f.done)
}

// kill cuts every connection.
func (f *front) kill() {
	f.srv.Close()
	<-f.done
}
