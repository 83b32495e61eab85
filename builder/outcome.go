package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/slipway-paas/slipway/builder/archive"
	"github.com/slipway-paas/slipway/builder/llb"
	"github.com/slipway-paas/slipway/buildpacks/source"
	"github.com/slipway-paas/slipway/internal/paas"
)

// Codes of failures that are made here.
const (
	failArchive  = "invalid_archive"
	failDeadline = "build_deadline"
	failCanceled = "canceled"
)

// recordTime bounds what is done after a build, also when the server stops.
const recordTime = 20 * time.Second

// run does the build and records how it ended. ctx ends with cancel or deadline,
// life with the server.
func (w *Worker) run(ctx, life context.Context, b *paas.Build) (state string, err error) {
	log, err := openLog(w.o.LogDir, b.ID)
	if err != nil {
		return w.release(ctx, life, b, fmt.Errorf("open build log: %w", err))
	}
	defer log.close()
	if b.Attempt > 1 {
		log.say(logSlipway, fmt.Sprintf("attempt %d: the one before was cut off", b.Attempt))
	}
	res, err := w.safely(ctx, &job{w: w, b: b, log: log})
	record, cancel := context.WithTimeout(context.WithoutCancel(life), recordTime)
	defer cancel()
	if err == nil {
		return w.finish(record, life, b, log, res)
	}
	failure, final := w.judge(ctx, err)
	if failure == nil {
		if errors.Is(context.Cause(ctx), errFenced) {
			return "fenced", err
		}
		log.say(logSlipway, "this attempt failed for reasons of the platform's own; it is repeated")
		return w.release(ctx, life, b, err)
	}
	log.say(logSlipway, "failed: "+failure.Message)
	if failure.Hint != "" {
		log.say(logSlipway, "hint: "+failure.Hint)
	}
	key, upErr := w.upload(record, b, log)
	if upErr != nil {
		return w.release(ctx, life, b, upErr)
	}
	if err := w.o.Store.FailBuild(record, b.ID, b.Attempt, final, *failure, key); err != nil {
		return "unrecorded", err
	}
	log.remove()
	return string(final), nil
}

// safely turns a panic into an error of ours, with the stack for the log.
func (w *Worker) safely(ctx context.Context, j *job) (res *paas.BuildResult, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return j.make(ctx)
}

func (w *Worker) finish(ctx, life context.Context, b *paas.Build, log *logWriter, res *paas.BuildResult) (string, error) {
	log.say(logSlipway, "build succeeded")
	key, err := w.upload(ctx, b, log)
	if err != nil {
		return w.release(ctx, life, b, err)
	}
	if _, err := w.o.Store.FinishBuild(ctx, b.ID, b.Attempt, *res, key); err != nil {
		switch paas.CodeOf(err) {
		case paas.CodeConflict:
			return "fenced", err
		case paas.CodeInvalid: // recorded, with the log, as a failure of the user's
			log.remove()
			return string(paas.BuildFailed), err
		}
		return w.release(ctx, life, b, fmt.Errorf("record build: %w", err))
	}
	log.remove()
	return string(paas.BuildSucceeded), nil
}

// judge returns the failure that is the user's to mend, or nil when it is ours.
func (w *Worker) judge(ctx context.Context, err error) (*paas.Failure, paas.BuildState) {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errCanceled):
		return &paas.Failure{Code: failCanceled, Message: "the build was canceled"}, paas.BuildCanceled
	case errors.Is(cause, errDeadline):
		return &paas.Failure{Code: failDeadline, Message: fmt.Sprintf("the build was stopped after its deadline of %s", w.o.Deadline),
			Hint: "the log shows what it was doing; make that quicker, or ask the operator for a longer deadline"}, paas.BuildFailed
	case cause != nil:
		return nil, ""
	}
	var planned *source.FailureError
	if errors.As(err, &planned) {
		return &planned.Failure, paas.BuildFailed
	}
	var step *llb.StepError
	if errors.As(err, &step) {
		return &step.Failure, paas.BuildFailed
	}
	var user *paas.Error
	if errors.As(err, &user) && (user.Code == paas.CodeInvalid || user.Code == paas.CodeTooLarge) {
		return &paas.Failure{Code: failArchive, Message: user.Message, Hint: user.Hint}, paas.BuildFailed
	}
	return nil, ""
}

// release gives the build back after a pause that grows with the attempts: what
// broke (a daemon, the object store) needs time to come back.
func (w *Worker) release(ctx, life context.Context, b *paas.Build, why error) (string, error) {
	if w.o.CgroupParent != "" && w.active.Load() == 1 {
		w.killSteps()
	}
	if context.Cause(ctx) == nil {
		wait := min(time.Duration(1<<min(b.Attempt, 5))*time.Second, maxRetryWait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	record, cancel := context.WithTimeout(context.WithoutCancel(life), recordTime)
	defer cancel()
	text, _, _ := strings.Cut(why.Error(), "\n")
	if err := w.o.Store.ReleaseBuild(record, b.ID, b.Attempt, text); err != nil && paas.CodeOf(err) != paas.CodeConflict {
		return "unrecorded", errors.Join(why, err)
	}
	return "released", why
}

// upload keeps the log as an object.
func (w *Worker) upload(ctx context.Context, b *paas.Build, log *logWriter) (string, error) {
	if err := log.close(); err != nil {
		return "", fmt.Errorf("write build log: %w", err)
	}
	f, err := os.Open(log.path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	key := logKey(b.ID)
	if err := w.o.Blobs.Put(ctx, key, f, info.Size()); err != nil {
		return "", fmt.Errorf("upload build log: %w", err)
	}
	return key, nil
}

func logKey(id int64) string { return fmt.Sprintf("builds/%d.log", id) }

// maxSmall bounds files that are read whole.
const maxSmall = 1 << 20

func readSmall(a *archive.Archive, name string) (string, error) {
	f, err := a.FS().Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSmall))
	return string(text), err
}
