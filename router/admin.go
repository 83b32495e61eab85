package router

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// admin serves /healthz, /metrics and /table on StateDir/admin.sock.
type admin struct {
	srv  *http.Server
	path string
	wg   sync.WaitGroup
}

func (r *Router) startAdmin() (*admin, error) {
	a := &admin{path: filepath.Join(r.opt.StateDir, "admin.sock")}
	ln, err := listenUnix(a.path)
	if err != nil {
		return nil, fmt.Errorf("router: admin socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", r.serveHealth)
	mux.HandleFunc("GET /table", r.serveTable)
	mux.HandleFunc("GET /metrics", r.serveMetrics)
	a.srv = &http.Server{Handler: mux, ReadHeaderTimeout: headTimeout, IdleTimeout: clientIdle}
	a.wg.Go(func() {
		if err := a.srv.Serve(ln); err != http.ErrServerClosed {
			r.log.Error("admin socket ended", "err", err)
		}
	})
	return a, nil
}

func (a *admin) close() {
	_ = a.srv.Close()
	a.wg.Wait()
	_ = os.Remove(a.path)
}

// serveHealth answers 200 when requests are taken and routed, if only by the
// saved table; the body says which.
func (r *Router) serveHealth(w http.ResponseWriter, _ *http.Request) {
	state, code := "ready", http.StatusOK
	t := r.table.Load()
	switch {
	case r.draining.Load():
		state, code = "draining", http.StatusServiceUnavailable
	case r.Addr() == "":
		state, code = "starting", http.StatusServiceUnavailable
	case t == nil:
		state, code = "no table", http.StatusServiceUnavailable
	case t.saved:
		state = "ready, with the saved table"
	}
	writeJSON(w, code, struct {
		State string `json:"state"`
		paas.RouterReport
	}{state, r.report()})
}

func (r *Router) serveTable(w http.ResponseWriter, _ *http.Request) {
	t := r.table.Load()
	if t == nil {
		writeJSON(w, http.StatusNotFound, map[string]string{"message": "no table yet"})
		return
	}
	w.Header().Set("X-Slipway-Table", map[bool]string{true: "saved", false: "confirmed"}[t.saved])
	writeJSON(w, http.StatusOK, t.src)
}

func (r *Router) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	inFlight, unhealthy := r.instances.report(time.Now())
	r.metrics.write(w, gauges{
		inFlight: inFlight, ejected: len(unhealthy), connections: r.conns.Load(), table: r.table.Load(),
	})
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // a reader that is gone needs no answer
}
