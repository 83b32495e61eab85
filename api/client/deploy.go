package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"

	"github.com/slipway-paas/slipway/api/v1"
)

// DeployRequest is an archive and what to do with it.
type DeployRequest struct {
	App     string
	Create  bool   // make the app if it does not exist
	Message string // free text, at most 500 bytes
	Origin  string // "api" (default), "cli"

	// Open returns the archive from its start; it is called again for each try.
	Open func() (io.ReadCloser, error)
	Size int64 // of the archive; 0 or below = not known
	// SHA256 is the archive's digest in hex; "" = not checked by the server.
	SHA256 string
	// Manifest and Deployment are sent beside the archive; nil = not given.
	Manifest, Deployment []byte
	// IdempotencyKey makes a repeated request harmless; "" = a random one.
	IdempotencyKey string
	// Progress is told how many bytes of the archive are on their way; it may be
	// called from another goroutine and falls back to 0 with each new try.
	Progress func(sent int64)
}

// Deploy uploads an archive and returns the deployment that it began. When the
// answer is lost the request is repeated under the same idempotency key.
func (c *Client) Deploy(ctx context.Context, r DeployRequest) (d v1.Deployment, err error) {
	if r.IdempotencyKey == "" {
		r.IdempotencyKey = rand.Text()
	}
	err = c.retry(ctx, true, func() error { return c.upload(ctx, r, &d) })
	return d, err
}

// upload sends the archive once.
func (c *Client) upload(ctx context.Context, r DeployRequest, out *v1.Deployment) error {
	archive, err := r.Open()
	if err != nil {
		return fmt.Errorf("open the archive: %w", err)
	}
	counted := &countingReader{r: archive, tell: r.Progress}
	req, err := c.deployRequest(ctx, r, struct {
		io.Reader
		io.Closer
	}{counted, archive})
	if err != nil {
		archive.Close()
		return err
	}
	return c.send(req, out)
}

// deployRequest makes the request; its body closes archive.
func (c *Client) deployRequest(ctx context.Context, r DeployRequest, archive io.ReadCloser) (*http.Request, error) {
	q := url.Values{}
	for name, value := range map[string]string{"message": r.Message, "origin": r.Origin} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if r.Create {
		q.Set("create", "true")
	}
	body, contentType, size := archive, "application/octet-stream", r.Size
	if r.Manifest != nil || r.Deployment != nil {
		body, contentType = form(r, archive)
		size = -1
	}
	req, err := c.request(ctx, http.MethodPost, appPath(r.App, "deployments"), q, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = -1
	if size > 0 {
		req.ContentLength = size
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Expect", "100-continue") // a refusal comes before the archive goes
	req.Header.Set("Idempotency-Key", r.IdempotencyKey)
	if r.SHA256 != "" {
		req.Header.Set("X-Content-SHA256", r.SHA256)
	}
	return req, nil
}

// form streams a multipart body. Its writer ends with the body: the transport
// closes the reading end after each request.
func form(r DeployRequest, archive io.ReadCloser) (io.ReadCloser, string) {
	pr, pw := io.Pipe()
	m := multipart.NewWriter(pw)
	go func() {
		defer archive.Close()
		pw.CloseWithError(writeForm(m, r, archive))
	}()
	return pr, m.FormDataContentType()
}

func writeForm(m *multipart.Writer, r DeployRequest, archive io.Reader) error {
	for name, content := range map[string][]byte{"manifest": r.Manifest, "deployment": r.Deployment} {
		if content == nil {
			continue
		}
		if err := m.WriteField(name, string(content)); err != nil {
			return err
		}
	}
	part, err := m.CreateFormFile("archive", "archive")
	if err != nil {
		return err
	}
	if _, err := io.Copy(part, archive); err != nil {
		return err
	}
	return m.Close()
}

type countingReader struct {
	r    io.Reader
	n    int64
	tell func(int64)
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.tell != nil {
		c.tell(c.n)
	}
	return n, err
}
