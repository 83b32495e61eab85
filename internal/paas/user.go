package paas

import "time"

// User may sign in. Until organisations exist every user is an administrator.
type User struct {
	ID        int64
	Name      string
	CreatedAt time.Time
}

// Token authenticates a user. Only its SHA-256 is stored.
type Token struct {
	ID         int64
	UserID     int64
	UserName   string
	Label      string // e.g. "make run", "laptop"
	Hash       string // hex of SHA-256 of the token text
	CreatedAt  time.Time
	LastUsedAt time.Time // minute granularity
}
