// Package source is the tree that buildpacks look at: the archive's files, the
// configuration that means the same for every language (manifest.json,
// deployment.json, Procfile), the catalogue of versions, and the shell form of a
// start command. It reads, and executes nothing.
//
// It imports internal/paas, buildpacks/plan and buildpacks/accfile. Start with
// Read in config.go.
package source

import (
	"fmt"
	"io/fs"

	"github.com/slipway-paas/slipway/internal/paas"
)

// Codes of failures that are the user's to mend.
const (
	FailNoStart     = "no_start_command"
	FailVersion     = "unsupported_version"
	FailUnknown     = "unknown_language"
	FailInvalidFile = "invalid_file"
)

const maxConfigFileBytes = 1 << 20

// Input is what a plan is made from.
type Input struct {
	FS fs.FS
	// Manifest and Deployment are given beside the tree and win over those inside;
	// empty = not given.
	Manifest   []byte
	Deployment []byte
	Catalog    Catalog
}

// FailureError carries a Failure that the user can mend.
type FailureError struct{ Failure paas.Failure }

func (e *FailureError) Error() string { return e.Failure.Message }

// Failf returns a FailureError.
func Failf(code, hint, format string, args ...any) *FailureError {
	return &FailureError{paas.Failure{Code: code, Message: fmt.Sprintf(format, args...), Hint: hint}}
}
