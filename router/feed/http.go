package feed

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

const (
	maxReport    = 4 << 20         // 64 Ki instances of 63 bytes; more is not ours
	writeTimeout = 5 * time.Second // a router that takes no byte for so long asks again
)

// message is one line of the stream.
type message struct {
	Table     *paas.Table `json:"table,omitempty"`
	Heartbeat bool        `json:"heartbeat,omitempty"`
}

// Handler serves POST /router/stream and POST /router/report. It checks nobody's
// identity: mount it where only routers can reach it.
func (f *Feed) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /router/stream", f.serveStream)
	mux.HandleFunc("POST /router/report", f.serveReport)
	return mux
}

func (f *Feed) serveReport(w http.ResponseWriter, r *http.Request) {
	if report, ok := readReport(w, r); ok {
		f.record(report)
		w.WriteHeader(http.StatusNoContent)
	}
}

// serveStream sends the newest table, again at each change, and heartbeats in
// between. Nothing is queued for a slow router: whenever it can take a line, it
// gets the table that is the newest then.
func (f *Feed) serveStream(w http.ResponseWriter, r *http.Request) {
	report, ok := readReport(w, r)
	if !ok {
		return
	}
	f.record(report)
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := http.NewResponseController(w)
	beat := time.NewTicker(f.opts.Heartbeat)
	defer beat.Stop()
	if send(out, w, nil) != nil { // headers go out before the first table exists
		return
	}
	var sent uint64
	for {
		line, version, published := f.newest()
		if version != sent {
			if send(out, w, line) != nil {
				return
			}
			sent = version
			continue // a newer one may have come while this one was written
		}
		select {
		case <-r.Context().Done():
			return
		case <-published:
		case <-beat.C:
			if send(out, w, heartbeat) != nil {
				return
			}
		}
	}
}

var heartbeat = []byte(`{"heartbeat":true}` + "\n")

func (f *Feed) newest() (line []byte, version uint64, published <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.line, f.table.Version, f.published
}

func send(out *http.ResponseController, w http.ResponseWriter, line []byte) error {
	if err := out.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if len(line) > 0 {
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return out.Flush()
}

func readReport(w http.ResponseWriter, r *http.Request) (paas.RouterReport, bool) {
	var report paas.RouterReport
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxReport)).Decode(&report)
	if err == nil && (report.Router == "" || report.Boot == "") {
		err = errors.New("router and boot must be given")
	}
	if err != nil {
		http.Error(w, "report: "+err.Error(), http.StatusBadRequest)
		return report, false
	}
	return report, true
}
