package store

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/internal/seal"
)

const (
	idempotencyKept   = 24 * time.Hour
	maxIdempotencyKey = 255
	maxMessage        = 500
)

var digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// AcceptDeploy implements paas.Store.
func (s *Store) AcceptDeploy(ctx context.Context, n paas.NewDeploy) (out paas.Deployment, repeated bool, err error) {
	if err := checkNewDeploy(n); err != nil {
		return out, false, err
	}
	err = s.write(ctx, func(t *tx) error {
		first, err := t.repeatedDeploy(n)
		if err != nil {
			return err
		}
		if repeated = first != nil; repeated {
			out, t.quiet = *first, true
			return nil
		}
		out, err = t.acceptDeploy(n)
		return err
	})
	return out, repeated && err == nil, err
}

func checkNewDeploy(n paas.NewDeploy) error {
	switch {
	case !digestPattern.MatchString(n.Archive.Digest) || n.Archive.Key == "":
		return fmt.Errorf("accept deploy: archive %q with key %q is not one that was stored", n.Archive.Digest, n.Archive.Key)
	case len(n.Message) > maxMessage:
		return paas.Errorf(paas.CodeInvalid, "the message has %d bytes, the limit is %d", len(n.Message), maxMessage)
	case len(n.IdempotencyKey) > maxIdempotencyKey:
		return paas.Errorf(paas.CodeInvalid, "the idempotency key has %d bytes, the limit is %d", len(n.IdempotencyKey), maxIdempotencyKey)
	}
	return nil
}

// repeatedDeploy returns what the idempotency key made before, nil if nothing.
func (t *tx) repeatedDeploy(n paas.NewDeploy) (*paas.Deployment, error) {
	err := t.db.Where("created_at <= ?", stampOf(t.now.Add(-idempotencyKept))).Delete(&idempotencyRow{}).Error
	if err != nil || n.IdempotencyKey == "" {
		return nil, err
	}
	key, err := find[idempotencyRow](t, "idem_key = ?", n.IdempotencyKey)
	if err != nil || key == nil {
		return nil, err
	}
	if key.AppName != n.App || key.ArchiveDigest != n.Archive.Digest {
		return nil, paas.Errorf(paas.CodeConflict, "the idempotency key was used for app %q with archive %.19s…", key.AppName, key.ArchiveDigest).
			WithHint("use a new key for each deploy, and the same one only to repeat it")
	}
	row, err := find[deploymentRow](t, "id = ?", key.DeploymentID)
	if err != nil || row == nil {
		return nil, err
	}
	d := row.deployment(key.AppName)
	return &d, nil
}

func (t *tx) acceptDeploy(n paas.NewDeploy) (paas.Deployment, error) {
	app, err := t.usableApp(n.App)
	if paas.CodeOf(err) == paas.CodeNotFound && n.CreateApp {
		app, err = t.createApp(paas.App{Name: n.App}, n.By)
	}
	if err != nil {
		return paas.Deployment{}, err
	}
	b, err := t.createBuild(app, n)
	if err != nil {
		return paas.Deployment{}, err
	}
	d := &deploymentRow{
		AppID: app.ID, Kind: paas.KindDeploy, State: paas.DeploymentPending, BuildID: b.ID, StartsApp: app.Stopped,
		Origin: n.Origin, Message: n.Message, ByUser: n.By, CreatedAt: stampOf(t.now),
	}
	if err := t.db.Create(d).Error; err != nil {
		return paas.Deployment{}, err
	}
	if n.IdempotencyKey != "" {
		err := t.db.Create(&idempotencyRow{IdemKey: n.IdempotencyKey, AppID: app.ID, AppName: app.Name,
			ArchiveDigest: n.Archive.Digest, DeploymentID: d.ID, CreatedAt: stampOf(t.now)}).Error
		if err != nil {
			return paas.Deployment{}, err
		}
	}
	message := fmt.Sprintf("an archive of %d bytes came by %s and waits for its build", n.Archive.SizeBytes, n.Origin)
	return d.deployment(app.Name), t.event(app, "app.deploying", d.ID, message, n.By)
}

// createBuild stores the archive, unless it is known, and a queued build of it.
func (t *tx) createBuild(app *appRow, n paas.NewDeploy) (*buildRow, error) {
	archive, err := find[archiveRow](t, "digest = ?", n.Archive.Digest)
	if err != nil {
		return nil, err
	}
	if archive == nil {
		archive = &archiveRow{Digest: n.Archive.Digest, SizeBytes: n.Archive.SizeBytes, ObjectKey: n.Archive.Key, CreatedAt: stampOf(t.now)}
		if err := t.db.Create(archive).Error; err != nil {
			return nil, err
		}
	}
	if err := t.db.Exec("DELETE FROM orphan_objects WHERE object_key = ?", archive.ObjectKey).Error; err != nil {
		return nil, err
	}
	b := &buildRow{AppID: app.ID, ArchiveDigest: archive.Digest, State: paas.BuildQueued, CreatedAt: stampOf(t.now)}
	if err := t.db.Create(b).Error; err != nil {
		return nil, err
	}
	if len(n.Manifest)+len(n.Deployment) == 0 {
		return b, nil
	}
	if b.Manifest, err = t.sealDocument(app, b, "manifest.json", n.Manifest); err != nil {
		return nil, err
	}
	if b.Deployment, err = t.sealDocument(app, b, "deployment.json", n.Deployment); err != nil {
		return nil, err
	}
	return b, save(t, b)
}

// sealDocument encrypts a file given beside the archive: deployment.json may hold
// the same secrets as the environment.
func (t *tx) sealDocument(app *appRow, b *buildRow, name string, doc []byte) (string, error) {
	if len(doc) == 0 {
		return "", nil
	}
	return t.store.sealer.Seal(documentPlace(app, b, name), doc)
}

func (t *tx) openDocument(app *appRow, b *buildRow, name, sealed string) ([]byte, error) {
	if sealed == "" {
		return nil, nil
	}
	doc, err := t.store.sealer.Open(documentPlace(app, b, name), sealed)
	if err != nil {
		return nil, fmt.Errorf("open %s of build %d: %w", name, b.ID, err)
	}
	return doc, nil
}

// documentPlace has a slash in its name, which no variable has.
func documentPlace(app *appRow, b *buildRow, name string) seal.Place {
	return seal.Place{Org: app.Org, App: app.ID, Name: fmt.Sprintf("build/%d/%s", b.ID, name)}
}
