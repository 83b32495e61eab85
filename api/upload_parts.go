package api

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"

	"github.com/slipway-paas/slipway/internal/paas"
)

// maxMultipartExtra is what a form may add to its archive: two manifests, a
// message, headers and boundaries.
const maxMultipartExtra = 2*maxManifest + 64<<10

// receiveParts reads a multipart form part by part, in any order: archive,
// manifest, deployment, message. The archive is never held in memory.
func (s *Server) receiveParts(r *http.Request, body io.Reader, u *upload) error {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || params["boundary"] == "" {
		return paas.Errorf(paas.CodeInvalid, "multipart/form-data has no boundary")
	}
	u.size = -1 // a part does not announce its length
	form := multipart.NewReader(io.LimitReader(body, s.Config.MaxArchiveBytes+maxMultipartExtra+1), params["boundary"])
	seen := map[string]bool{}
	for {
		p, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return badForm(err)
		}
		name := p.FormName()
		if seen[name] {
			return paas.Errorf(paas.CodeInvalid, "part %q is given twice", clip(name, 40))
		}
		seen[name] = true
		if err := s.receivePart(r, p, name, u); err != nil {
			return err
		}
	}
	if !u.stored {
		return paas.Errorf(paas.CodeInvalid, "the form has no part %q", "archive").WithHint("with curl: -F archive=@app.zip")
	}
	return nil
}

func (s *Server) receivePart(r *http.Request, p *multipart.Part, name string, u *upload) error {
	var err error
	switch name {
	case "archive":
		return s.store(r.Context(), p, u)
	case "manifest":
		u.Manifest, err = readPart(p, name, maxManifest)
	case "deployment":
		u.Deployment, err = readPart(p, name, maxManifest)
	case "message":
		var text []byte
		text, err = readPart(p, name, maxMessage)
		u.Message = string(text)
		err = errors.Join(err, checkMessage(u.Message))
	default:
		return paas.Errorf(paas.CodeInvalid, "part %q is not known", clip(name, 40)).WithHint("known: archive, manifest, deployment, message")
	}
	return err
}

// readPart reads a small part whole; it is not nil, so that an empty file counts
// as given.
func readPart(p io.Reader, name string, max int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(p, max+1))
	if err != nil {
		return nil, badForm(err)
	}
	if int64(len(b)) > max {
		return nil, paas.Errorf(paas.CodeTooLarge, "part %q is larger than %d bytes", name, max)
	}
	return b, nil
}

func badForm(err error) error {
	return paas.Errorf(paas.CodeInvalid, "the multipart form is malformed or ends early").WithCause(err)
}
