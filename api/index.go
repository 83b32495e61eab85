package api

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"
)

//go:embed openapi.yaml
var openapiYAML []byte

//go:embed index.html
var indexHTML string

var indexPage = template.Must(template.New("index").Parse(indexHTML))

// indexStyle is the hash by which the page's one style is let through.
var indexStyle = func() string {
	_, rest, _ := strings.Cut(indexHTML, "<style>")
	style, _, _ := strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(style))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}()

// index says to a person with a browser what answers here.
func (s *Server) index(c echo.Context) error {
	url := s.Config.PublicURL
	if url == "" {
		url = "http://" + c.Request().Host
	}
	var page strings.Builder
	if err := indexPage.Execute(&page, map[string]string{"URL": url, "Version": s.Version}); err != nil {
		return err
	}
	h := c.Response().Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src "+indexStyle+"; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	return c.HTML(http.StatusOK, page.String())
}

func (s *Server) openapi(c echo.Context) error {
	return c.Blob(http.StatusOK, "application/yaml", openapiYAML)
}
