package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

// maxEvent bounds one line of a stream: a log line of 64 KiB, each byte of which
// may be escaped as \u00xx, and its frame.
const maxEvent = 1 << 20

// errDone ends a stream whose story is over.
var errDone = errors.New("done")

// event is one server-sent event.
type event struct {
	id, name string
	data     []byte
}

// FollowDeployment calls tell for each event of a deployment until it is live or
// final, and returns it. A lost connection is taken up again where it broke.
func (c *Client) FollowDeployment(ctx context.Context, app string, id int64, tell func(v1.DeploymentEvent)) (v1.Deployment, error) {
	return c.followDeployment(ctx, app, id, nil, tell)
}

// FollowToEnd is FollowDeployment that goes on while a live deployment is watched.
func (c *Client) FollowToEnd(ctx context.Context, app string, id int64, tell func(v1.DeploymentEvent)) (v1.Deployment, error) {
	return c.followDeployment(ctx, app, id, url.Values{"until": {"final"}}, tell)
}

func (c *Client) followDeployment(ctx context.Context, app string, id int64, q url.Values, tell func(v1.DeploymentEvent)) (last v1.Deployment, err error) {
	err = c.follow(ctx, appPath(app, "deployments", id, "events"), q, "", func(e event) error {
		var d v1.DeploymentEvent
		if err := json.Unmarshal(e.data, &d); err != nil {
			return fmt.Errorf("event %s: %w", e.name, err)
		}
		d.ID = e.id
		if d.Deployment != nil {
			last = *d.Deployment
		}
		if tell != nil {
			tell(d)
		}
		if e.name == "done" {
			return errDone
		}
		return nil
	})
	return last, err
}

// LogOptions selects an app's output.
type LogOptions struct {
	Follow   bool
	Tail     int       // last lines; 0 = the server's default (1000), -1 = all, -2 = none
	Instance string    // ID or web.1; "" = all
	Since    time.Time // zero = from the start
}

// Logs calls tell for each line, oldest first, until all is told or, with
// Follow, until ctx ends; then it returns ctx's error.
func (c *Client) Logs(ctx context.Context, app string, o LogOptions, tell func(v1.LogLine)) error {
	q := url.Values{}
	if o.Follow {
		q.Set("follow", "true")
	}
	switch {
	case o.Tail > 0:
		q.Set("tail", strconv.Itoa(o.Tail))
	case o.Tail == -1:
		q.Set("tail", "all")
	case o.Tail == -2:
		q.Set("tail", "0")
	}
	if o.Instance != "" {
		q.Set("instance", o.Instance)
	}
	if !o.Since.IsZero() {
		q.Set("since", o.Since.UTC().Format(time.RFC3339Nano))
	}
	return c.follow(ctx, appPath(app, "logs"), q, "", each(tell))
}

// BuildLog calls tell for each line of a build's log until all is told or, with
// follow, until the build is final.
func (c *Client) BuildLog(ctx context.Context, app string, id int64, follow bool, tell func(v1.BuildLine)) error {
	q := url.Values{}
	if follow {
		q.Set("follow", "true")
	}
	return c.follow(ctx, appPath(app, "builds", id, "log"), q, "", each(tell))
}

// FollowEvents calls tell for each event after an ID (-1 = from now) until ctx
// ends or, with an app, until the app is removed.
func (c *Client) FollowEvents(ctx context.Context, app string, after int64, tell func(v1.Event)) error {
	q, id := url.Values{}, ""
	if after >= 0 {
		id = strconv.FormatInt(after, 10)
	}
	return c.follow(ctx, eventsPath(app), q, id, each(tell))
}

// each decodes the data of every event but those that end the stream.
func each[T any](tell func(T)) func(event) error {
	return func(e event) error {
		if e.name == "done" || e.name == "gone" {
			return errDone
		}
		var v T
		if err := json.Unmarshal(e.data, &v); err != nil {
			return fmt.Errorf("event %s: %w", e.name, err)
		}
		tell(v)
		return nil
	}
}

// follow reads a stream to its end, connecting again after the last event that
// was handled while the server does not answer, for at most streamPatience at a
// time.
func (c *Client) follow(ctx context.Context, path string, q url.Values, lastID string, handle func(event) error) error {
	giveUp := time.Now().Add(c.streamPatience)
	for n := 0; ; n++ {
		err := c.readStream(ctx, path, q, &lastID, func(e event) error {
			n, giveUp = 0, time.Now().Add(c.streamPatience)
			return handle(e)
		})
		if errors.Is(err, errDone) {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var e *answerError
		if err != nil && (!errors.As(err, &e) || !e.transient) {
			return err
		}
		if time.Now().After(giveUp) {
			return err
		}
		if err := sleep(ctx, pause(n)); err != nil {
			return err
		}
	}
}

// readStream connects once and handles events until the connection ends, which
// is always an error: a story that is over says so.
func (c *Client) readStream(ctx context.Context, path string, q url.Values, lastID *string, handle func(event) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := c.request(ctx, http.MethodGet, path, q, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	if *lastID != "" {
		req.Header.Set("Last-Event-ID", *lastID)
	}
	// The server says something every 15 s: a connection that is quiet for longer
	// is dead, even if nobody told.
	quiet := time.AfterFunc(c.quiet, cancel)
	defer quiet.Stop()
	resp, err := c.open(req)
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return c.unreachable(err, false)
		}
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 64<<10), maxEvent)
	var e event
	for lines.Scan() {
		quiet.Reset(c.quiet)
		if lines.Text() != "" {
			e.add(lines.Text())
			continue
		}
		if e.name != "" {
			if err := handleEvent(e, resp, handle); err != nil {
				return err
			}
			if e.id != "" {
				*lastID = e.id
			}
		}
		e = event{}
	}
	if err := lines.Err(); err != nil {
		return c.unreachable(fmt.Errorf("read the stream: %w", err), false)
	}
	return c.unreachable(io.ErrUnexpectedEOF, false)
}

// handleEvent turns the server's word of an error into one.
func handleEvent(e event, resp *http.Response, handle func(event) error) error {
	if e.name != "error" {
		return handle(e)
	}
	var body v1.Error
	if err := json.Unmarshal(e.data, &body); err != nil {
		return fmt.Errorf("event error: %w", err)
	}
	pe := toError(body)
	transient := pe.Code == paas.CodeUnavailable || pe.Code == paas.CodeTooMany || pe.Code == paas.CodeInternal
	return &answerError{err: pe, requestID: resp.Header.Get("X-Request-Id"), transient: transient}
}

// add takes one line of an event.
func (e *event) add(line string) {
	field, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch field {
	case "id":
		e.id = value
	case "event":
		e.name = value
	case "data":
		e.data = append(e.data, value...)
	}
}
