package router

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

const (
	reportInterval = time.Second
	reportTimeout  = 2 * time.Second
	// Five heartbeats that did not come: the stream is dead, not quiet.
	streamSilence = 5 * time.Second
	backoffMin    = 50 * time.Millisecond
	backoffMax    = time.Second
	maxTableBytes = 256 << 20
)

// control keeps the router in touch with the control plane: tables in, reports
// out. Its absence changes nothing for requests.
type control struct {
	r      *Router
	client *http.Client
	base   string
	now    chan struct{} // holds one wish for a report at once

	firstOnce sync.Once
	first     chan struct{} // closed at the first table
}

func newControl(r *Router) *control {
	c := &control{r: r, now: make(chan struct{}, 1), first: make(chan struct{}), base: r.opt.Control}
	tr := &http.Transport{MaxIdleConns: 4, IdleConnTimeout: time.Minute}
	if !strings.HasPrefix(c.base, "http://") {
		path := c.base
		c.base = "http://control"
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dialUnix(ctx, path) }
	}
	c.base = strings.TrimSuffix(c.base, "/")
	c.client = &http.Client{Transport: tr}
	return c
}

func (c *control) gotTable() { c.firstOnce.Do(func() { close(c.first) }) }

// wake asks for a report at once.
func (c *control) wake() {
	select {
	case c.now <- struct{}{}:
	default:
	}
}

// run works until ctx ends.
func (c *control) run(ctx context.Context) {
	defer c.client.CloseIdleConnections()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { c.sendReports(ctx) })
	wait := backoffMin
	for {
		start := time.Now()
		err := c.stream(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(start) > 2*streamSilence {
			wait = backoffMin
		}
		c.r.log.Warn("route stream lost, serving on with the last table", "err", err, "retryIn", wait)
		if !sleep(ctx, jitter(wait)) {
			return
		}
		wait = min(2*wait, backoffMax)
	}
}

// message is one line of the stream.
type message struct {
	Table     *paas.Table `json:"table"`
	Heartbeat bool        `json:"heartbeat"`
}

// stream reads tables until the stream ends or falls silent.
func (c *control) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(streamSilence, func() { cancel(fmt.Errorf("nothing heard for %s", streamSilence)) })
	defer silence.Stop()
	resp, err := c.post(ctx, "/router/stream")
	if err != nil {
		return cause(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("control plane answered %s", resp.Status)
	}
	c.wake() // a control plane that has just come up knows nothing of us
	body := &io.LimitedReader{R: resp.Body}
	dec := json.NewDecoder(body)
	for {
		body.N = maxTableBytes
		var m message
		if err := dec.Decode(&m); err != nil {
			return cause(ctx, err)
		}
		silence.Reset(streamSilence)
		if m.Table != nil {
			c.r.apply(*m.Table)
			c.wake()
		}
	}
}

// sendReports reports each second and when asked to. One goroutine does it, so
// that an older report never arrives after a newer one.
func (c *control) sendReports(ctx context.Context) {
	t := time.NewTicker(reportInterval)
	defer t.Stop()
	wait := backoffMin
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.now:
		case <-t.C:
		}
		err := c.sendReport(ctx)
		if err == nil {
			wait = backoffMin
			continue
		}
		c.r.log.Debug("report not delivered", "err", err)
		if !sleep(ctx, jitter(wait)) {
			return
		}
		wait = min(2*wait, backoffMax)
		c.wake()
	}
}

func (c *control) sendReport(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	resp, err := c.post(ctx, "/router/report")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10)) // for the connection's reuse
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("control plane answered %s", resp.Status)
	}
	return nil
}

func (c *control) post(ctx context.Context, path string) (*http.Response, error) {
	b, err := json.Marshal(c.r.report())
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	return c.client.Do(req)
}

func cause(ctx context.Context, err error) error {
	if why := context.Cause(ctx); why != nil && !errors.Is(why, context.Canceled) {
		return why
	}
	return err
}

func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// sleep waits for d; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
