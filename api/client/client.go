// Package client is the Go client of Slipway's REST API, which the CLI and the
// end-to-end tests use. It returns the documents of api/v1 and errors of
// internal/paas, repeats what may be repeated, and goes on with streams after
// the server was restarted. It imports nothing else of Slipway.
//
// Start reading here, then deploy.go (uploads) and stream.go (what is followed).
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// Defaults of the options.
const (
	DefaultPatience       = 3 * time.Second
	DefaultStreamPatience = 60 * time.Second
)

// maxAnswer bounds a JSON answer; the largest is a list of 500 deployments with
// 50 lines of output each.
const maxAnswer = 64 << 20

// Client talks to one server. It is safe for concurrent use.
type Client struct {
	base           *url.URL
	token          string
	http           *http.Client
	patience       time.Duration
	streamPatience time.Duration
	quiet          time.Duration
}

// Option changes a Client.
type Option func(*Client)

// WithPatience sets for how long a request that may be repeated is tried while
// the server does not answer.
func WithPatience(d time.Duration) Option { return func(c *Client) { c.patience = d } }

// WithStreamPatience sets for how long a broken stream is tried again.
func WithStreamPatience(d time.Duration) Option { return func(c *Client) { c.streamPatience = d } }

// WithHTTPClient replaces the client underneath; it must not have a timeout.
func WithHTTPClient(h *http.Client) Option { return func(c *Client) { c.http = h } }

// New returns a client for the server at baseURL (http://host:port). It does not
// connect. token may be empty.
func New(baseURL, token string, opts ...Option) (*Client, error) {
	u, err := url.Parse(strings.TrimRight(baseURL, "/"))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, paas.Errorf(paas.CodeInvalid, "server address %q is not a URL", baseURL).WithHint("it looks like http://127.0.0.1:8000")
	}
	c := &Client{base: u, token: token, patience: DefaultPatience, streamPatience: DefaultStreamPatience, quiet: 50 * time.Second}
	c.http = &http.Client{Transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: 2 * time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   4,
		DisableCompression:    true,
	}}
	for _, o := range opts {
		o(c)
	}
	return c, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call is one request with a JSON answer.
type call struct {
	method string
	path   string
	query  url.Values
	in     any // body, nil = none
	out    any // answer, nil = not wanted
}

// do sends a call. GET, PUT and DELETE are repeated while the server does not
// answer; others only while no connection can be made.
func (c *Client) do(ctx context.Context, k call) error {
	var body []byte
	if k.in != nil {
		var err error
		if body, err = json.Marshal(k.in); err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
	}
	repeatable := k.method == http.MethodGet || k.method == http.MethodDelete
	return c.retry(ctx, repeatable, func() error {
		var r io.Reader
		if body != nil {
			r = bytes.NewReader(body)
		}
		req, err := c.request(ctx, k.method, k.path, k.query, r)
		if err != nil {
			return err
		}
		if body != nil {
			req.Header.Set("Content-Type", "application/json")
		}
		return c.send(req, k.out)
	})
}

// request makes a request with the token.
func (c *Client) request(ctx context.Context, method, path string, q url.Values, body io.Reader) (*http.Request, error) {
	u := c.base.JoinPath(path)
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	req.Header.Set("User-Agent", "slipway-client")
	return req, nil
}

// send sends req once and decodes the answer.
func (c *Client) send(req *http.Request, out any) error {
	resp, err := c.open(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return c.unreachable(fmt.Errorf("read the answer of %s: %w", req.URL.Path, err), false)
	}
	return nil
}

// open sends req once and returns an answer below 400; the caller closes it.
func (c *Client) open(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		if req.Context().Err() != nil {
			return nil, context.Cause(req.Context())
		}
		return nil, c.unreachable(err, isDialError(err))
	}
	if resp.StatusCode < 400 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, readError(resp)
}

// appPath builds /v1/apps/{app}/… with everything escaped.
func appPath(app string, parts ...any) string {
	p := "/v1/apps/" + url.PathEscape(app)
	for _, part := range parts {
		p += "/" + url.PathEscape(fmt.Sprint(part))
	}
	return p
}
