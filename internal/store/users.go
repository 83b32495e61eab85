package store

import (
	"context"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// EnsureAdmin implements paas.Store. A token with this hash that the user has
// already stays as it is.
func (s *Store) EnsureAdmin(ctx context.Context, name, label, tokenHash string) (out paas.User, err error) {
	if name == "" || tokenHash == "" {
		return out, paas.Errorf(paas.CodeInvalid, "a user needs a name and a token")
	}
	err = s.write(ctx, func(t *tx) error {
		user, err := find[userRow](t, "name = ?", name)
		if err != nil {
			return err
		}
		if user == nil {
			user = &userRow{Name: name, CreatedAt: stampOf(t.now)}
			if err := t.db.Create(user).Error; err != nil {
				return err
			}
		}
		out = paas.User{ID: user.ID, Name: user.Name, CreatedAt: user.CreatedAt.time()}
		token, err := find[tokenRow](t, "hash = ?", tokenHash)
		if err != nil {
			return err
		}
		if token != nil && token.UserID != user.ID {
			return paas.Errorf(paas.CodeConflict, "the token belongs to another user").WithHint("make a new token")
		}
		if token != nil {
			t.quiet = true
			return nil
		}
		if err := t.db.Create(&tokenRow{UserID: user.ID, Label: label, Hash: tokenHash, CreatedAt: stampOf(t.now)}).Error; err != nil {
			return err
		}
		return t.addEvent(eventRow{At: stampOf(t.now), Kind: "token.created", Message: "user " + name + " got the token " + label})
	})
	return out, err
}

// TokenByHash implements paas.Store.
func (s *Store) TokenByHash(ctx context.Context, hash string) (out paas.Token, err error) {
	err = s.read(ctx, func(t *tx) error {
		row, err := find[tokenRow](t, "hash = ?", hash)
		if err != nil {
			return err
		}
		if row == nil {
			return paas.Errorf(paas.CodeNotFound, "the token is not known")
		}
		user, err := find[userRow](t, "id = ?", row.UserID)
		if err != nil {
			return err
		}
		out = paas.Token{ID: row.ID, UserID: row.UserID, UserName: user.Name, Label: row.Label, Hash: row.Hash,
			CreatedAt: row.CreatedAt.time(), LastUsedAt: row.LastUsedAt.time()}
		return nil
	})
	return out, err
}

// TouchToken implements paas.Store. It writes at most once a minute per token.
func (s *Store) TouchToken(ctx context.Context, id int64, at time.Time) error {
	minute := stampOf(at.Truncate(time.Minute))
	var due bool
	err := s.read(ctx, func(t *tx) error {
		row, err := find[tokenRow](t, "id = ? AND last_used_at < ?", id, minute)
		due = row != nil
		return err
	})
	if err != nil || !due {
		return err
	}
	return s.write(ctx, func(t *tx) error {
		t.quiet = true
		return t.db.Model(&tokenRow{}).Where("id = ? AND last_used_at < ?", id, minute).Update("last_used_at", minute).Error
	})
}

// Leader implements paas.Store.
func (s *Store) Leader(ctx context.Context, name, holder string, ttl time.Duration) (held bool, err error) {
	err = s.write(ctx, func(t *tx) error {
		t.quiet = true
		row, err := find[leaseRow](t, "name = ?", name)
		if err != nil {
			return err
		}
		held = row == nil || row.Holder == holder || row.Until <= stampOf(t.now)
		if !held {
			return nil
		}
		next := &leaseRow{Name: name, Holder: holder, Until: stampOf(t.now.Add(ttl))}
		if row == nil {
			return t.db.Create(next).Error
		}
		return save(t, next)
	})
	return held && err == nil, err
}
