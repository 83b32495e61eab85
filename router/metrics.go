package router

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// durationBuckets are upper bounds in seconds.
var durationBuckets = [...]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}

// errorClasses are the values of X-Slipway-Error, and "cut" for an answer that an
// instance began and did not end.
var errorClasses = [...]string{errBadRequest, errNoTable, errUnknownHost, errStopped, errNoInstance, errUnreachable, errTimeout, "cut"}

// metrics are written out by hand: a client library would cost more memory than
// the router's own.
type metrics struct {
	codes     [6]atomic.Uint64 // by hundreds; 0 = never answered
	errors    [len(errorClasses)]atomic.Uint64
	ownErrors atomic.Uint64 // 5xx pages made here
	retries   atomic.Uint64
	malformed atomic.Uint64 // refused by the framing guard, before they were requests
	refused   atomic.Int64  // records of the current table

	buckets     [len(durationBuckets) + 1]atomic.Uint64
	durationSum atomic.Int64 // nanoseconds
}

func newMetrics() *metrics { return &metrics{} }

// observe counts a request that has ended. Tunnels count, but not in the durations.
func (m *metrics) observe(x *exchange, d time.Duration) {
	if x.class != "" {
		m.errors[slices.Index(errorClasses[:], x.class)].Add(1)
		if x.code >= 500 && x.class != "cut" {
			m.ownErrors.Add(1)
		}
	}
	m.codes[min(x.code/100, 5)].Add(1)
	if x.tunnel {
		return
	}
	i := 0
	for i < len(durationBuckets) && d.Seconds() > durationBuckets[i] {
		i++
	}
	m.buckets[i].Add(1)
	m.durationSum.Add(int64(d))
}

func (m *metrics) requests() (n uint64) {
	for i := range m.codes {
		n += m.codes[i].Load()
	}
	return n
}

// gauges are read when asked for.
type gauges struct {
	inFlight    map[string]int
	ejected     int
	connections int64
	table       *table
}

// write prints the Prometheus text format, version 0.0.4.
func (m *metrics) write(w io.Writer, g gauges) {
	one := func(name, kind, help string, v any) {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n%s %v\n", name, help, name, kind, name, v)
	}
	fmt.Fprint(w, "# HELP slipway_router_requests_total Requests that have ended, by class of the answer.\n# TYPE slipway_router_requests_total counter\n")
	for i := range m.codes {
		class := strconv.Itoa(i) + "xx"
		if i == 0 {
			class = "none"
		}
		fmt.Fprintf(w, "slipway_router_requests_total{code=%q} %d\n", class, m.codes[i].Load())
	}
	fmt.Fprint(w, "# HELP slipway_router_errors_total Errors of the router's own, by class.\n# TYPE slipway_router_errors_total counter\n")
	for i, class := range errorClasses {
		fmt.Fprintf(w, "slipway_router_errors_total{class=%q} %d\n", class, m.errors[i].Load())
	}
	one("slipway_router_retries_total", "counter", "Requests sent again, because nothing of them had been sent or they do no harm twice.", m.retries.Load())
	one("slipway_router_malformed_total", "counter", "Connections refused for malformed bytes.", m.malformed.Load())
	one("slipway_router_client_connections", "gauge", "Open client connections, without tunnels.", g.connections)
	one("slipway_router_ejected_instances", "gauge", "Instances that take no requests after failed connects.", g.ejected)
	one("slipway_router_refused_records", "gauge", "Records of the current table that were refused.", m.refused.Load())
	if g.table != nil {
		stale := 0
		if g.table.saved {
			stale = 1
		}
		one("slipway_router_table_version", "gauge", "Version of the current table.", g.table.src.Version)
		one("slipway_router_table_stale", "gauge", "1 while the table is the saved one.", stale)
	}
	fmt.Fprint(w, "# HELP slipway_router_in_flight Requests and tunnels, by instance.\n# TYPE slipway_router_in_flight gauge\n")
	for _, id := range slices.Sorted(maps.Keys(g.inFlight)) {
		fmt.Fprintf(w, "slipway_router_in_flight{instance=%q} %d\n", id, g.inFlight[id])
	}
	m.writeDurations(w)
}

func (m *metrics) writeDurations(w io.Writer) {
	const name = "slipway_router_request_duration_seconds"
	fmt.Fprintf(w, "# HELP %s From the request's head to the end of the answer.\n# TYPE %s histogram\n", name, name)
	var n uint64
	for i := range m.buckets {
		n += m.buckets[i].Load()
		le := "+Inf"
		if i < len(durationBuckets) {
			le = strconv.FormatFloat(durationBuckets[i], 'g', -1, 64)
		}
		fmt.Fprintf(w, "%s_bucket{le=%q} %d\n", name, le, n)
	}
	fmt.Fprintf(w, "%s_sum %g\n%s_count %d\n", name, time.Duration(m.durationSum.Load()).Seconds(), name, n)
}
