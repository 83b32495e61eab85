package store

import (
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// stamp is a time as stored: microseconds since 1970, 0 = never. A number means
// the same in both databases.
type stamp int64

func stampOf(t time.Time) stamp {
	if t.IsZero() {
		return 0
	}
	return stamp(t.UnixMicro())
}

func (s stamp) time() time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(s)).UTC()
}

type appRow struct {
	ID             string `gorm:"primaryKey"`
	Org            string
	Name           string
	Type           paas.AppType
	Stopped        bool
	Instances      int
	MemoryBytes    int64
	CPUMillis      int `gorm:"column:cpu_millis"`
	LiveDeployment int64
	ConfigVersion  int
	LastRelease    int // number given out last; never reused
	Deleting       bool
	CreatedAt      stamp `gorm:"autoCreateTime:false"`
	UpdatedAt      stamp `gorm:"autoUpdateTime:false"`
}

func (appRow) TableName() string { return "apps" }

func (r appRow) app() paas.App {
	return paas.App{
		ID: r.ID, Org: r.Org, Name: r.Name, Type: r.Type, Stopped: r.Stopped,
		Instances: r.Instances, MemoryBytes: r.MemoryBytes, CPUMillis: r.CPUMillis,
		LiveDeployment: r.LiveDeployment, ConfigVersion: r.ConfigVersion, Deleting: r.Deleting,
		CreatedAt: r.CreatedAt.time(), UpdatedAt: r.UpdatedAt.time(),
	}
}

// set takes over what a user may change.
func (r *appRow) set(a paas.App) {
	r.Stopped, r.Deleting = a.Stopped, a.Deleting
	r.Instances, r.MemoryBytes, r.CPUMillis = a.Instances, a.MemoryBytes, a.CPUMillis
}

type archiveRow struct {
	Digest    string `gorm:"primaryKey"`
	SizeBytes int64
	ObjectKey string
	CreatedAt stamp `gorm:"autoCreateTime:false"`
}

func (archiveRow) TableName() string { return "archives" }

type buildRow struct {
	ID            int64
	AppID         string
	ArchiveDigest string
	Manifest      string // sealed; "" = not given
	Deployment    string // sealed (it may hold an environment); "" = not given
	State         paas.BuildState
	Attempt       int
	Worker        string
	LeaseUntil    stamp
	Canceled      bool
	Trouble       string            // why it went back to the queue last
	Failure       *paas.Failure     `gorm:"serializer:json"`
	Result        *paas.BuildResult `gorm:"serializer:json"` // without UserEnv
	LogKey        string
	CreatedAt     stamp `gorm:"autoCreateTime:false"`
	StartedAt     stamp
	FinishedAt    stamp
}

func (buildRow) TableName() string { return "builds" }

type releaseRow struct {
	ID            int64
	AppID         string
	Number        int
	BuildID       int64
	ArchiveDigest string
	ImageRef      string
	ImageDigest   string
	ConfigVersion int
	Type          paas.AppType
	Command       []string `gorm:"serializer:json"`
	Env           []string `gorm:"serializer:json"`
	MemoryBytes   int64
	Health        paas.HealthCheck `gorm:"serializer:json"`
	Grace         time.Duration
	Reason        string
	CreatedBy     string
	CreatedAt     stamp `gorm:"autoCreateTime:false"`
}

func (releaseRow) TableName() string { return "releases" }

func (r releaseRow) release() paas.Release {
	return paas.Release{
		ID: r.ID, AppID: r.AppID, Number: r.Number, BuildID: r.BuildID, ArchiveDigest: r.ArchiveDigest,
		ImageRef: r.ImageRef, ImageDigest: r.ImageDigest, ConfigVersion: r.ConfigVersion, Type: r.Type,
		Command: r.Command, Env: r.Env, MemoryBytes: r.MemoryBytes, Health: r.Health, Grace: r.Grace,
		Reason: r.Reason, CreatedBy: r.CreatedBy, CreatedAt: r.CreatedAt.time(),
	}
}

type deploymentRow struct {
	ID            int64
	AppID         string
	Kind          paas.Kind
	State         paas.DeploymentState
	BuildID       int64
	ReleaseID     int64
	ReleaseNumber int
	Previous      int64
	StartsApp     bool // the app was stopped when this was asked for, and not again since
	Origin        paas.Origin
	Message       string
	ByUser        string
	Failure       *paas.Failure `gorm:"serializer:json"`
	Waiting       string
	CreatedAt     stamp `gorm:"autoCreateTime:false"`
	RollingAt     stamp
	LiveAt        stamp
	WatchUntil    stamp
	FinishedAt    stamp
}

func (deploymentRow) TableName() string { return "deployments" }

func (r deploymentRow) deployment(appName string) paas.Deployment {
	return paas.Deployment{
		ID: r.ID, AppID: r.AppID, AppName: appName, Kind: r.Kind, State: r.State, BuildID: r.BuildID,
		ReleaseID: r.ReleaseID, Release: r.ReleaseNumber, Previous: r.Previous, Origin: r.Origin,
		Message: r.Message, By: r.ByUser, Failure: r.Failure, Waiting: r.Waiting,
		CreatedAt: r.CreatedAt.time(), RollingAt: r.RollingAt.time(), LiveAt: r.LiveAt.time(),
		WatchUntil: r.WatchUntil.time(), FinishedAt: r.FinishedAt.time(),
	}
}

type configVarRow struct {
	AppID   string `gorm:"primaryKey"`
	Version int    `gorm:"primaryKey;autoIncrement:false"`
	Name    string `gorm:"primaryKey"`
	Sealed  string
}

func (configVarRow) TableName() string { return "config_vars" }

type idempotencyRow struct {
	IdemKey       string `gorm:"primaryKey"`
	AppID         string
	AppName       string
	ArchiveDigest string
	DeploymentID  int64
	CreatedAt     stamp `gorm:"autoCreateTime:false"`
}

func (idempotencyRow) TableName() string { return "idempotency_keys" }

type eventRow struct {
	ID         int64
	At         stamp
	AppID      string
	AppName    string
	Kind       string
	Deployment int64
	Message    string
	ByUser     string
}

func (eventRow) TableName() string { return "events" }

type userRow struct {
	ID        int64
	Name      string
	CreatedAt stamp `gorm:"autoCreateTime:false"`
}

func (userRow) TableName() string { return "users" }

type tokenRow struct {
	ID         int64
	UserID     int64
	Label      string
	Hash       string
	CreatedAt  stamp `gorm:"autoCreateTime:false"`
	LastUsedAt stamp
}

func (tokenRow) TableName() string { return "tokens" }

type leaseRow struct {
	Name   string `gorm:"primaryKey"`
	Holder string
	Until  stamp
}

func (leaseRow) TableName() string { return "leases" }

// find returns the first row for the condition, nil if there is none.
func find[R any](t *tx, where string, args ...any) (*R, error) {
	var rows []R
	if err := t.db.Where(where, args...).Limit(1).Find(&rows).Error; err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, nil
	}
	return &rows[0], nil
}

// save writes every column of a row that exists.
func save[R any](t *tx, row *R) error {
	return t.db.Model(row).Select("*").Updates(row).Error
}
