package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"github.com/slipway-paas/slipway/internal/paas"
)

const (
	maxMessage  = 500
	maxIdemKey  = 255
	maxManifest = 256 << 10
	// After slowAfter an upload must have come at minRate bytes/s on average: one
	// that drips keeps a place from others.
	slowAfter = 2 * time.Minute
	minRate   = 2 << 10
)

// upload is one deploy on its way in.
type upload struct {
	paas.NewDeploy
	digest string // announced, "sha256:<hex>"; "" = none
	size   int64  // announced length of the archive; -1 = none
	stored bool   // NewDeploy.Archive is in Blobs and held
}

// createDeployment takes an archive. All that can be refused without it is
// refused before the body is read; after the 202 nothing is lost, after anything
// else nothing is left.
func (s *Server) createDeployment(c echo.Context) error {
	u, err := s.beginUpload(c)
	if err != nil {
		return err
	}
	select {
	case s.uploads <- struct{}{}:
		defer func() { <-s.uploads }()
	default:
		return paas.Errorf(paas.CodeTooMany, "%d uploads are under way, that is the limit", cap(s.uploads)).WithHint("try again in a few seconds")
	}
	s.metrics.uploads.Inc()
	defer s.metrics.uploads.Dec()

	ctx := c.Request().Context()
	err = s.receive(c, u)
	var d paas.Deployment
	var repeated bool
	if err == nil {
		setDeadlines(c, time.Time{}, time.Now().Add(requestTime))
		d, repeated, err = s.accept(ctx, u)
	}
	if u.stored {
		s.holds.release(u.Archive.Key)
	}
	if err != nil {
		if u.stored {
			s.discard(context.WithoutCancel(ctx), u.Archive)
		}
		return err
	}
	if repeated {
		c.Response().Header().Set("Idempotency-Replayed", "true")
	}
	return s.answerAccepted(c, d)
}

// beginUpload reads everything but the body.
func (s *Server) beginUpload(c echo.Context) (*upload, error) {
	q, err := query(c, "create", "message", "origin")
	if err != nil {
		return nil, err
	}
	u := &upload{size: c.Request().ContentLength}
	u.By = userName(c)
	u.Message = q.Get("message")
	if err := errors.Join(u.readQuery(q), checkMessage(u.Message), u.readHeaders(c.Request().Header)); err != nil {
		return nil, err
	}
	if max := s.Config.MaxArchiveBytes; u.size > max+maxMultipartExtra || u.size > max && !isMultipart(c.Request()) {
		return nil, tooLarge(u.size, max)
	}
	return u, s.target(c, u)
}

// target finds the app that the archive is for, or lets it be made.
func (s *Server) target(c echo.Context, u *upload) error {
	u.App = param(c, "app")
	if u.CreateApp {
		if err := paas.ValidateAppName(u.App); err != nil {
			return err
		}
	}
	a, err := s.app(c)
	if paas.CodeOf(err) == paas.CodeNotFound {
		if u.CreateApp {
			return nil
		}
		return unknownApp(u.App).(*paas.Error).WithHint("add create=true to make it")
	}
	if err != nil {
		return err
	}
	return mustStay(a)
}

func (u *upload) readQuery(q url.Values) (err error) {
	u.Origin = paas.OriginAPI
	switch o := paas.Origin(q.Get("origin")); o {
	case "":
	case paas.OriginAPI, paas.OriginCLI, paas.OriginUI:
		u.Origin = o
	default:
		return paas.Errorf(paas.CodeInvalid, "origin %q is not known", clip(string(o), 20)).WithHint("use api, cli or ui")
	}
	u.CreateApp, err = queryBool(q, "create")
	return err
}

func checkMessage(m string) error {
	if len(m) > maxMessage {
		return paas.Errorf(paas.CodeInvalid, "the message has %d bytes, the limit is %d", len(m), maxMessage)
	}
	if !utf8.ValidString(m) {
		return paas.Errorf(paas.CodeInvalid, "the message is not valid UTF-8")
	}
	return nil
}

func tooLarge(size, max int64) error {
	return paas.Errorf(paas.CodeTooLarge, "the archive has %d bytes, the limit is %d", size, max).
		WithHint("leave out what the build makes anew, e.g. with .slipwayignore")
}

// receive reads the body and puts the archive into the object store.
func (s *Server) receive(c echo.Context, u *upload) error {
	r := c.Request()
	if err := checkBodyHeaders(r); err != nil {
		return err
	}
	body := &patientReader{c: c, r: r.Body, idle: s.Config.UploadIdle, start: time.Now(), bytes: s.metrics.uploadBytes.Add}
	var err error
	if isMultipart(r) {
		err = s.receiveParts(r, body, u)
	} else {
		err = s.store(r.Context(), body, u)
	}
	if err != nil && body.err != nil { // whatever it was called downstream
		return body.explain()
	}
	return err
}

// store streams one archive into Blobs and holds it there.
func (s *Server) store(ctx context.Context, r io.Reader, u *upload) error {
	a, err := s.Blobs.PutArchive(ctx, r, u.size, s.Config.MaxArchiveBytes, u.digest)
	if err != nil {
		return err
	}
	s.holds.hold(a.Key)
	u.Archive, u.stored = a, true
	if a.SizeBytes == 0 {
		return paas.Errorf(paas.CodeInvalid, "the archive is empty").WithHint("send a zip or tar.gz as the body")
	}
	return nil
}

// accept checks what was stored and writes the deployment.
func (s *Server) accept(ctx context.Context, u *upload) (paas.Deployment, bool, error) {
	if err := s.CheckManifest(u.Manifest, u.Deployment); err != nil {
		return paas.Deployment{}, false, err
	}
	r, err := s.Blobs.OpenArchive(ctx, u.Archive.Key)
	if paas.CodeOf(err) == paas.CodeNotFound {
		// Another upload of the same content was refused and removed it just before
		// this one took hold.
		return paas.Deployment{}, false, paas.Errorf(paas.CodeUnavailable, "the upload met the removal of the same archive").WithHint("send it again")
	}
	if err != nil {
		return paas.Deployment{}, false, err
	}
	defer r.Close()
	if err := s.CheckArchive(ctx, r, r.Size()); err != nil {
		return paas.Deployment{}, false, err
	}
	return s.Store.AcceptDeploy(ctx, u.NewDeploy)
}

// patientReader gives each read of an upload its time, and remembers how the
// body ended.
type patientReader struct {
	c     echo.Context
	r     io.Reader
	idle  time.Duration
	start time.Time
	bytes func(float64)
	n     int64
	err   error // other than io.EOF
}

func (p *patientReader) Read(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	now := time.Now()
	if took := now.Sub(p.start); took > slowAfter && float64(p.n) < minRate*took.Seconds() {
		p.err = errTooSlow
		return 0, p.err
	}
	setDeadlines(p.c, now.Add(p.idle), now.Add(p.idle+requestTime))
	n, err := p.r.Read(b)
	p.n += int64(n)
	p.bytes(float64(n))
	if err != nil && err != io.EOF {
		p.err = err
	}
	return n, err
}

var errTooSlow = errors.New("too slow")

// explain words why the body ended.
func (p *patientReader) explain() error {
	switch {
	case errors.Is(p.err, errTooSlow):
		return paas.Errorf(paas.CodeInvalid, "the upload is slower than %d bytes/s: %d bytes in %s", minRate, p.n, time.Since(p.start).Round(time.Second))
	case errors.Is(p.err, os.ErrDeadlineExceeded):
		return paas.Errorf(paas.CodeInvalid, "no data came for %s; the upload had %d bytes by then", p.idle, p.n)
	}
	return paas.Errorf(paas.CodeInvalid, "the upload ended early after %d bytes", p.n).WithHint("send it again").WithCause(p.err)
}

// checkBodyHeaders refuses what would not be an archive.
func checkBodyHeaders(r *http.Request) error {
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return paas.Errorf(paas.CodeInvalid, "Content-Encoding %q is not supported", clip(e, 20)).WithHint("send the archive as it is")
	}
	ct := r.Header.Get("Content-Type")
	if ct == "" || archiveTypes[mediaType(ct)] || isMultipart(r) {
		return nil
	}
	return paas.Errorf(paas.CodeInvalid, "Content-Type %q is not that of an archive", clip(ct, 60)).
		WithHint("use application/zip, application/gzip or multipart/form-data; with curl: -H 'Content-Type: application/zip' --data-binary @app.zip")
}

// readHeaders takes the idempotency key and the announced digest.
func (u *upload) readHeaders(h http.Header) (err error) {
	u.IdempotencyKey = h.Get("Idempotency-Key")
	if len(u.IdempotencyKey) > maxIdemKey {
		return paas.Errorf(paas.CodeInvalid, "the Idempotency-Key has %d bytes, the limit is %d", len(u.IdempotencyKey), maxIdemKey)
	}
	for _, b := range []byte(u.IdempotencyKey) {
		if b < ' ' || b > '~' {
			return paas.Errorf(paas.CodeInvalid, "the Idempotency-Key may hold printable ASCII only")
		}
	}
	u.digest, err = announcedDigest(h)
	if err != nil {
		return fmt.Errorf("digest: %w", err)
	}
	return nil
}
