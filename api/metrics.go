package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics of the API itself; others register theirs in Deps.Metrics.
type metrics struct {
	requests    *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	streams     prometheus.Gauge
	uploads     prometheus.Gauge
	uploadBytes prometheus.Counter
}

func newMetrics(r *prometheus.Registry) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "slipway_api_requests_total", Help: "Requests answered, by route and status."}, []string{"method", "route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "slipway_api_request_duration_seconds", Help: "Time from the first byte of a request to the end of its answer; a stream counts when it ends.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8)}, []string{"route"}),
		streams:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "slipway_api_streams", Help: "Open event streams, logs and exec sessions."}),
		uploads:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "slipway_api_uploads", Help: "Uploads under way."}),
		uploadBytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "slipway_api_uploaded_bytes_total", Help: "Bytes received in uploads."}),
	}
	r.MustRegister(m.requests, m.duration, m.streams, m.uploads, m.uploadBytes)
	return m
}

// observe counts one request; what matched no route shares one label, and so do
// methods that nobody knows.
func (m *metrics) observe(method, route string, status int, took time.Duration) {
	if status == http.StatusNotFound && route == "" || status == http.StatusMethodNotAllowed {
		method, route = "other", "other"
	}
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(route).Observe(took.Seconds())
}

func (s *Server) serveMetrics(c echo.Context) error {
	promhttp.HandlerFor(s.Deps.Metrics, promhttp.HandlerOpts{}).ServeHTTP(c.Response(), c.Request())
	return nil
}
