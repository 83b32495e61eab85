//go:build tools

// Package engine pins the second S3 server that only the blob tests use. It is
// never shipped: MinIO is AGPL and its repository is archived.
package engine

import _ "github.com/minio/minio"
