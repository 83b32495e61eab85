package archive

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/slipway-paas/slipway/internal/paas"
)

// The rules of the threat model (reliability.md §2.2), as refusals name them.
const (
	ruleName      = "A-1 names"
	ruleLink      = "A-2 links"
	ruleType      = "A-3 types"
	ruleBomb      = "A-4 bombs"
	ruleAmbiguous = "A-5 ambiguity"
	ruleMethod    = "A-6 methods"
	ruleBroken    = "A-9 damaged"
)

const (
	hintRezip   = "make the archive again, e.g. zip -r app.zip . inside the folder, or give the folder to slipway deploy"
	hintUpload  = "the file is cut off or damaged: make it again and upload it again"
	hintSmaller = "leave out what the app does not need, or ask the operator to raise the limit"
	hintLinks   = "make the link relative and let it point inside the archive, or replace it by the file"
)

// refuse is a refusal of the archive as a whole.
func refuse(rule, hint, format string, args ...any) *paas.Error {
	return paas.Errorf(paas.CodeInvalid, "archive refused: %s [%s]", fmt.Sprintf(format, args...), rule).WithHint("%s", hint)
}

// refuseEntry is a refusal because of one entry.
func refuseEntry(rule, name, hint, format string, args ...any) *paas.Error {
	return refuse(rule, hint, "entry %s: %s", quoteName(name), fmt.Sprintf(format, args...))
}

// tooLarge is a refusal because of a limit.
func tooLarge(format string, args ...any) *paas.Error {
	return paas.Errorf(paas.CodeTooLarge, "archive refused: %s [%s]", fmt.Sprintf(format, args...), ruleBomb).WithHint(hintSmaller)
}

// quoteName makes any name printable and short enough for one line.
func quoteName(name string) string {
	const most = 200
	if len(name) > most {
		name = strings.ToValidUTF8(name[:most], "\ufffd") + "…"
	}
	return fmt.Sprintf("%q", name)
}

// readError sorts an error of reading the container: an end that comes too early
// is the user's damaged file, everything else is the reader's own error.
func readError(err error, what string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return refuse(ruleBroken, hintUpload, "it ends in the middle of %s", what)
	}
	return fmt.Errorf("read archive: %s: %w", what, err)
}

// spoolError sorts an error of writing the spool file.
func spoolError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return paas.Errorf(paas.CodeStorageFull, "the platform's disk is full while unpacking the archive").
			WithHint("free some space and deploy again").WithCause(err)
	}
	return fmt.Errorf("spool archive: %w", err)
}
