package llb

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/slipway-paas/slipway/internal/paas"
)

// Codes of failures that are the user's to mend.
const (
	FailMemory   = "build_out_of_memory"
	FailRegistry = "registry_unreachable"
	FailStep     = "build_step_failed"
)

// StepError is a step of the user's that failed.
type StepError struct {
	Failure paas.Failure
	// NoCompiler: the step looked for compilers, python3 or git and had none.
	NoCompiler bool
}

func (e *StepError) Error() string { return e.Failure.Message }

var exitCode = regexp.MustCompile(`did not complete successfully: exit code: (\d+)`)

// explain decides whose error it is: a command that ended with a code is the
// user's, everything else is ours.
func explain(err error, step, command string, tail []string, lim Limits) error {
	m := exitCode.FindStringSubmatch(err.Error())
	if m == nil {
		if st, ok := status.FromError(errors.Unwrap(err)); ok && st.Code() == codes.Unavailable || status.Code(err) == codes.Unavailable {
			return unavailable(err)
		}
		return fmt.Errorf("solve: %w", err)
	}
	code, _ := strconv.Atoi(m[1])
	f := paas.Failure{Code: FailStep, Output: tail}
	f.Message = fmt.Sprintf("the %s step failed: `%s` ended with exit code %d", step, command, code)
	text := strings.Join(tail, "\n")
	switch {
	case code == 137 || hasAny(text, "signal SIGKILL", "JavaScript heap out of memory", "Killed"):
		f.Code = FailMemory
		f.Message = fmt.Sprintf("the %s step ran out of memory: `%s` was stopped at the limit of %d MiB", step, command, lim.MemoryBytes>>20)
		f.Hint = "make the build use less memory, or ask the operator for a higher build memory limit"
	case hasAny(text, "ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH", "SELF_SIGNED_CERT", "UNABLE_TO_GET_ISSUER_CERT"):
		f.Code = FailRegistry
		f.Hint = "the package registry was not reached; try again, or check .npmrc and the server's registry setting"
	case strings.Contains(text, "npm ci") && hasAny(text, "in sync", "package-lock.json"):
		f.Hint = "package.json and package-lock.json disagree; run `npm install` and deploy the new package-lock.json"
	case strings.Contains(text, "ERR_PNPM_OUTDATED_LOCKFILE"), strings.Contains(text, "lockfile needs to be updated"), strings.Contains(text, "YN0028"):
		f.Hint = "package.json and the lock file disagree; install once on your machine and deploy the new lock file"
	default:
		f.Hint = "the last lines of its output say why"
	}
	missing := hasAny(text, "gyp ERR! find Python", "not found: make", "make: not found", "spawn make ENOENT", "g++: not found", "spawn git", "git: not found")
	return &StepError{Failure: f, NoCompiler: missing}
}

func hasAny(text string, words ...string) bool {
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}
