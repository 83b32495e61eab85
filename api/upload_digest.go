package api

import (
	"encoding/base64"
	"encoding/hex"
	"mime"
	"net/http"
	"strings"

	"github.com/slipway-paas/slipway/internal/paas"
)

// archiveTypes are the media types under which archives travel; what it really
// is, the archive itself says.
var archiveTypes = map[string]bool{
	"application/zip": true, "application/x-zip-compressed": true, "application/java-archive": true,
	"application/gzip": true, "application/x-gzip": true, "application/x-compressed-tar": true,
	"application/x-tar": true, "application/x-gtar": true, "application/octet-stream": true,
}

func mediaType(contentType string) string {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return "malformed"
	}
	return t
}

func isMultipart(r *http.Request) bool {
	return mediaType(r.Header.Get("Content-Type")) == "multipart/form-data"
}

// announcedDigest reads the SHA-256 that the client expects, from
// X-Content-SHA256 (hex), Repr-Digest (RFC 9530) or Digest (RFC 3230). Other
// algorithms are passed over; two that disagree are refused.
func announcedDigest(h http.Header) (string, error) {
	var found string
	note := func(sum []byte, err error, name string) error {
		if err != nil || len(sum) != 32 {
			return paas.Errorf(paas.CodeInvalid, "the header %s is not a SHA-256", name)
		}
		d := "sha256:" + hex.EncodeToString(sum)
		if found != "" && found != d {
			return paas.Errorf(paas.CodeInvalid, "two headers announce different digests")
		}
		found = d
		return nil
	}
	if v := h.Get("X-Content-SHA256"); v != "" {
		sum, err := hex.DecodeString(v)
		if err := note(sum, err, "X-Content-SHA256"); err != nil {
			return "", err
		}
	}
	for _, name := range []string{"Repr-Digest", "Digest"} {
		for _, item := range strings.Split(h.Get(name), ",") {
			alg, value, _ := strings.Cut(strings.TrimSpace(item), "=")
			if !strings.EqualFold(alg, "sha-256") {
				continue
			}
			if name == "Repr-Digest" { // a structured field: bytes stand between colons
				value = strings.TrimSuffix(strings.TrimPrefix(value, ":"), ":")
			}
			sum, err := base64.StdEncoding.DecodeString(value)
			if err := note(sum, err, name); err != nil {
				return "", err
			}
		}
	}
	return found, nil
}
