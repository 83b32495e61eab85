package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/slipway-paas/slipway/internal/paas"
)

// Defaults of Config.
const (
	DefaultMaxArchiveBytes = 1 << 30
	DefaultMaxUploads      = 64
	DefaultUploadIdle      = 60 * time.Second
	DefaultHeartbeat       = 15 * time.Second
)

// requestTime bounds reading and answering of everything that is neither an
// upload nor a stream.
const requestTime = 60 * time.Second

// Deps is what the server is made of. Store, Blobs, Runtime, Logs, BuildLogs,
// Router, Components, CheckArchive and CheckManifest are required.
type Deps struct {
	Store      paas.Store
	Blobs      paas.Blobs
	Runtime    paas.Runtime
	Logs       paas.Logs
	BuildLogs  paas.BuildLogs
	Router     paas.Router
	Components paas.Components

	// CheckArchive reads a stored archive's directory and refuses what the builder
	// would refuse, with a paas.Error of CodeInvalid or CodeTooLarge.
	CheckArchive func(ctx context.Context, r io.ReaderAt, size int64) error
	// CheckManifest does the same for manifest.json and deployment.json given beside
	// the archive; nil = not given.
	CheckManifest func(manifest, deployment []byte) error

	Config  Config
	Version string               // of the binary
	Metrics *prometheus.Registry // nil = one of its own
	Log     *slog.Logger         // nil = slog.Default()
}

// Config holds the limits and addresses that the API enforces and shows.
type Config struct {
	Domains         []string      // an app answers at <app>.<domain>; empty = localhost
	RouterScheme    string        // "" = http
	RouterPort      int           // 0 = the scheme's own
	PublicURL       string        // of this API, as users reach it
	DataDir         string        // its file system is shown in the status; "" = not shown
	MaxArchiveBytes int64         // 0 = DefaultMaxArchiveBytes
	MaxUploads      int           // at a time; 0 = DefaultMaxUploads
	UploadIdle      time.Duration // an upload that sends nothing for so long is cut; 0 = DefaultUploadIdle
	Heartbeat       time.Duration // of quiet streams; 0 = DefaultHeartbeat
}

func (c *Config) defaults() {
	if len(c.Domains) == 0 {
		c.Domains = []string{"localhost"}
	}
	if c.RouterScheme == "" {
		c.RouterScheme = "http"
	}
	if c.MaxArchiveBytes == 0 {
		c.MaxArchiveBytes = DefaultMaxArchiveBytes
	}
	if c.MaxUploads == 0 {
		c.MaxUploads = DefaultMaxUploads
	}
	if c.UploadIdle == 0 {
		c.UploadIdle = DefaultUploadIdle
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = DefaultHeartbeat
	}
}

// Server answers the API. It is safe for concurrent use.
type Server struct {
	Deps
	echo    *echo.Echo
	metrics *metrics
	origin  *http.CrossOriginProtection
	uploads chan struct{} // one element per upload under way
	holds   holds
	touched touches
	now     func() time.Time

	closing   chan struct{} // closed by Close: streams end
	closeOnce sync.Once
}

var _ http.Handler = (*Server)(nil)

// New returns a server that is ready to serve. It starts nothing.
func New(d Deps) (*Server, error) {
	if d.Store == nil || d.Blobs == nil || d.Runtime == nil || d.Logs == nil || d.BuildLogs == nil ||
		d.Router == nil || d.Components == nil || d.CheckArchive == nil || d.CheckManifest == nil {
		return nil, errors.New("api: a required part of Deps is nil")
	}
	d.Config.defaults()
	if d.Log == nil {
		d.Log = slog.Default()
	}
	if d.Metrics == nil {
		d.Metrics = prometheus.NewRegistry()
	}
	s := &Server{
		Deps:    d,
		echo:    echo.New(),
		metrics: newMetrics(d.Metrics),
		origin:  http.NewCrossOriginProtection(),
		uploads: make(chan struct{}, d.Config.MaxUploads),
		holds:   holds{n: map[string]int{}},
		touched: touches{at: map[int64]time.Time{}},
		now:     time.Now,
		closing: make(chan struct{}),
	}
	s.echo.HideBanner = true
	s.echo.HTTPErrorHandler = s.writeError
	s.echo.Use(s.observe, s.recover, s.protect)
	for _, r := range s.routes() {
		s.echo.Add(r.method, r.path, s.allow(r.access, r.handle))
	}
	return s, nil
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.echo.ServeHTTP(w, r) }

// Close ends all streams, so that http.Server.Shutdown need not wait for them;
// their clients resume at the next server. It may be called twice.
func (s *Server) Close() { s.closeOnce.Do(func() { close(s.closing) }) }

// HTTPServer returns a server for addr with the limits that fit this handler: it
// bounds headers itself and leaves bodies and answers to the handlers, which
// know an upload from a stream. Shutdown closes s.
func (s *Server) HTTPServer(addr string) *http.Server {
	h := &http.Server{
		Addr:              addr,
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	h.RegisterOnShutdown(s.Close)
	return h
}
