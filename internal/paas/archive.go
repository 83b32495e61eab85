package paas

import "time"

// Archive is an uploaded source. The same digest is stored once.
type Archive struct {
	Digest    string // "sha256:<64 hex>"
	SizeBytes int64
	Key       string // object key in Blobs
	CreatedAt time.Time
}

// Origin is the way in by which an archive came.
type Origin string

const (
	OriginAPI Origin = "api"
	OriginCLI Origin = "cli"
	OriginUI  Origin = "ui"
	OriginGit Origin = "git"
	OriginURL Origin = "url"
)
