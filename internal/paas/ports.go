package paas

import (
	"context"
	"io"
	"time"
)

// Blobs stores opaque objects (archives, finished logs) in an S3 bucket. All
// methods are safe for concurrent use. Errors: CodeUnavailable when the object
// store does not answer, CodeStorageFull when its disk is full.
type Blobs interface {
	// PutArchive streams r into the store while hashing and counting, and returns
	// what it stored; the same content is stored once. size is the announced length
	// or -1. Beyond maxBytes it returns CodeTooLarge; when wantDigest
	// ("sha256:<hex>", "" = any) does not match, or r is shorter than size,
	// CodeInvalid. After an error nothing is left behind; after nil the object is
	// durable.
	PutArchive(ctx context.Context, r io.Reader, size, maxBytes int64, wantDigest string) (Archive, error)
	// OpenArchive reads an archive by ranges. CodeNotFound if it is absent.
	OpenArchive(ctx context.Context, key string) (ArchiveReader, error)
	Put(ctx context.Context, key string, r io.Reader, size int64) error // replaces
	Get(ctx context.Context, key string) (io.ReadCloser, error)         // CodeNotFound
	Delete(ctx context.Context, key string) error                       // absent: nil
	List(ctx context.Context, prefix string) ([]BlobInfo, error)        // sorted by key
	// Sweep removes half uploads that began before the time given.
	Sweep(ctx context.Context, before time.Time) error
}

// BlobInfo is one listed object.
type BlobInfo struct {
	Key       string
	SizeBytes int64
	ModTime   time.Time
}

// ArchiveReader reads one stored archive at any offset; safe for concurrent use.
type ArchiveReader interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// NewDeploy is what an accepted upload asks for.
type NewDeploy struct {
	App            string // name
	CreateApp      bool   // make the app if it does not exist
	Archive        Archive
	Manifest       []byte // manifest.json given beside the archive; nil = none
	Deployment     []byte // deployment.json, same
	Origin         Origin
	Message        string
	By             string
	IdempotencyKey string // "" = none; the same key within 24 h gives the same Deployment
}

// AppWork is all that reconcile needs to know of one app.
type AppWork struct {
	App App
	// Live is App.LiveDeployment's row and the release its instances run; nil before
	// the first success.
	Live        *Deployment
	LiveRelease *Release
	// Active is the newest deployment that is rolling or live (watched); nil if
	// none. It may be the same row as Live (state live).
	Active        *Deployment
	ActiveRelease *Release
	// Previous is Active.Previous with its release, wanted back when Active fails
	// during its watch; nil if there is none.
	Previous        *Deployment
	PreviousRelease *Release
	// Env holds the environments of the releases above by config version.
	Env map[int][]EnvVar
}

// Store keeps desired state and history. Every method is one transaction. All
// are safe for concurrent use by several processes. Errors: Error with
// CodeNotFound / CodeConflict / CodeInvalid as said; anything else is internal.
type Store interface {
	// ---- apps
	CreateApp(ctx context.Context, a App, by string) (App, error) // CodeConflict: name taken; fills ID, times, defaults
	App(ctx context.Context, name string) (App, error)            // CodeNotFound
	Apps(ctx context.Context) ([]App, error)                      // sorted by name
	// UpdateApp applies change to the newest row; change may be called again after
	// a conflict. event is the Kind of the event to record with message ("" = none).
	UpdateApp(ctx context.Context, name string, change func(*App) error, event, message, by string) (App, error)
	// RemoveApp deletes the row and all history of an app that is Deleting, and
	// returns the archive digests and log keys that nothing refers to any more.
	RemoveApp(ctx context.Context, appID string) (orphanKeys []string, err error)

	// ---- ways in
	// AcceptDeploy writes Archive, Build(queued) and Deployment(pending) together.
	// A repeated idempotency key returns the first Deployment and repeated=true;
	// the same key with another archive or app is CodeConflict.
	AcceptDeploy(ctx context.Context, n NewDeploy) (d Deployment, repeated bool, err error)
	// ArchiveInUse reports whether the history refers to an archive's digest, so that
	// a refused upload of the same content does not take its object away.
	ArchiveInUse(ctx context.Context, digest string) (bool, error)
	// DeployRelease starts a deployment of an existing release (rollback, restart);
	// it is rolling at once. number 0 = the live one. CodeNotFound, CodeConflict.
	DeployRelease(ctx context.Context, app string, number int, kind Kind, by string) (Deployment, error)
	// SetEnv merges set and removes unset, making a new config version; when
	// something changed and the app has a live release, a new Release with the same
	// image and a rolling Deployment (KindEnv) follow in the same transaction.
	// The Deployment is nil when nothing has to roll.
	SetEnv(ctx context.Context, app string, set map[string]string, unset []string, by string) (*Deployment, error)
	Env(ctx context.Context, app string) ([]EnvVar, error) // newest config version, sorted by name

	// ---- builds
	// ClaimBuild takes the oldest queued build, or one whose lease has ended, for
	// worker until now+lease, and counts Attempt up. nil if there is none. A build
	// past MaxBuildAttempts is failed instead ("builder_lost") with its deployment.
	ClaimBuild(ctx context.Context, worker string, lease time.Duration) (*Build, error)
	// RenewBuild extends the lease; CodeConflict when attempt is not the current
	// one (fenced). It returns whether cancel was asked for.
	RenewBuild(ctx context.Context, id int64, attempt int, lease time.Duration) (cancel bool, err error)
	// FinishBuild records success: Build(succeeded), Release N, Deployment(rolling)
	// in one transaction (or Deployment superseded when a newer one exists).
	FinishBuild(ctx context.Context, id int64, attempt int, r BuildResult, logKey string) (Release, error)
	// FailBuild records a user's failure: Build(failed|canceled) and its Deployment.
	FailBuild(ctx context.Context, id int64, attempt int, state BuildState, f Failure, logKey string) error
	// ReleaseBuild gives a claimed build back to the queue at once (our failure).
	ReleaseBuild(ctx context.Context, id int64, attempt int, why string) error
	Build(ctx context.Context, id int64) (Build, error)
	Builds(ctx context.Context, app string, limit int) ([]Build, error) // newest first
	// LastBuild is the newest succeeded build of the app, for the ledger and for
	// reuse (same archive, same plan); nil if none.
	LastBuild(ctx context.Context, appID string) (*Build, error)

	// ---- releases and deployments
	Releases(ctx context.Context, app string, limit int) ([]Release, error) // newest first
	Release(ctx context.Context, app string, number int) (Release, error)
	Deployment(ctx context.Context, id int64) (Deployment, error)
	Deployments(ctx context.Context, app string, limit int) ([]Deployment, error) // newest first
	// CancelDeployment asks for a stop: pending → its build is canceled; rolling →
	// canceled (reconcile removes the newcomers). CodeConflict when it is final or live.
	CancelDeployment(ctx context.Context, id int64, by string) (Deployment, error)

	// ---- reconcile
	Work(ctx context.Context) ([]AppWork, error) // every app, in one consistent read
	// MoveDeployment sets a deployment's state if it is still in from; moved is false
	// (and nothing changes) otherwise. To DeploymentLive it also sets
	// App.LiveDeployment, LiveAt, WatchUntil. To failed from live it sets
	// App.LiveDeployment back to Previous. f is kept for failed.
	MoveDeployment(ctx context.Context, id int64, from, to DeploymentState, watchUntil time.Time, f *Failure) (moved bool, err error)
	SetWaiting(ctx context.Context, id int64, waiting string) error
	// ImagesInUse lists the image refs of all kept releases and unfinished builds.
	ImagesInUse(ctx context.Context) (map[string]bool, error)
	// PruneReleases drops what no rollback needs any more: releases beyond the
	// newest keep of each app (never live, active or previous ones).
	PruneReleases(ctx context.Context, keep int) (orphanKeys []string, err error)

	// ---- events
	AddEvent(ctx context.Context, e Event) error
	Events(ctx context.Context, app string, after int64, limit int) ([]Event, error) // oldest first; app "" = all
	LastEventID(ctx context.Context) (int64, error)
	// Changed returns a channel that is closed at the next commit made through this
	// Store. It is a hint: other processes' commits may not be seen.
	Changed() <-chan struct{}

	// ---- users
	// EnsureAdmin makes the first user and a token with this hash, or adds the token
	// if the user exists.
	EnsureAdmin(ctx context.Context, name, label, tokenHash string) (User, error)
	TokenByHash(ctx context.Context, hash string) (Token, error) // CodeNotFound
	TouchToken(ctx context.Context, id int64, at time.Time) error

	// Leader takes or renews a named lease for holder until now+ttl; false when
	// another holder has it. Reconcile and sweepers run under one.
	Leader(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
	Ping(ctx context.Context) error
	Version(ctx context.Context) (string, error) // "SQLite 3.53.0", "PostgreSQL 15.18"
	Close() error
}

// Runtime is what the API shows and does with instances. reconcile implements it.
type Runtime interface {
	// Instances returns what was observed last, sorted by slot then deployment.
	// appID "" = all apps. CodeUnavailable when containerd has not answered yet.
	Instances(ctx context.Context, appID string) ([]Instance, error)
	// Exec runs argv inside an instance and blocks until it ends. CodeNotFound when
	// the instance is gone.
	Exec(ctx context.Context, instanceID string, r ExecRequest) (exitCode int, err error)
	// Wake asks the loop to look now.
	Wake()
}

// ExecRequest is one command for a running instance.
type ExecRequest struct {
	Args   []string
	TTY    bool
	Stdin  io.Reader // nil = none
	Stdout io.Writer
	Stderr io.Writer // unused with TTY
	Resize <-chan TermSize
}

// TermSize is a terminal's size in characters.
type TermSize struct{ Cols, Rows uint16 }

// LogQuery selects log lines.
type LogQuery struct {
	App      string // name, required
	Instance string // ID or "web.1"; "" = all
	Tail     int    // last n lines; 0 = all kept, -1 = none (follow only)
	Follow   bool
	Since    time.Time
}

// LogLine is one line of an instance's output. Lines are cut at 64 KiB.
type LogLine struct {
	At       time.Time
	Instance string // ID
	Slot     int
	Release  int
	Stream   string // "stdout", "stderr" or "slipway" (a mark of ours)
	Text     string
}

// Logs reads what instances wrote, also those that are gone.
type Logs interface {
	// Read calls emit for each line, oldest first across instances, and returns when
	// all is told or, with Follow, when ctx ends. New instances join a followed read.
	Read(ctx context.Context, q LogQuery, emit func(LogLine) error) error
	// Remove deletes all logs of an app.
	Remove(ctx context.Context, app string) error
}

// BuildLine is one line of a build's log.
type BuildLine struct {
	At   time.Time `json:"at"`
	Step string    `json:"step"` // "detect", "dependencies", …
	Text string    `json:"text"`
}

// BuildLogs reads a build's log, live or finished.
type BuildLogs interface {
	// Read emits the lines of the build from the start (or after the first skip
	// lines) and, with follow, until the build is final.
	Read(ctx context.Context, b Build, skip int, follow bool, emit func(BuildLine) error) error
}

// Router publishes tables and knows what the routers did with them.
type Router interface {
	// Publish makes t the newest table; Epoch and Version are filled in. It returns
	// the version that holds the content (the current one if nothing changed).
	Publish(ctx context.Context, apps []RouteTable) (version uint64, err error)
	// Acked reports whether every live router has confirmed version. With no live
	// router it is true only after GoneAfter has passed since the last one was seen.
	Acked(version uint64) bool
	// InFlight sums requests to an instance over live routers.
	InFlight(instance string) int
	// Reports lists the routers that were heard of, with the time.
	Reports() []SeenRouter
	// Changed is closed at the next report that changes something.
	Changed() <-chan struct{}
}

// SeenRouter is a router's last report.
type SeenRouter struct {
	RouterReport
	SeenAt time.Time
	Live   bool // holds its lease
}

// ComponentStatus is one line of `slipway status`.
type ComponentStatus struct {
	Name      string    `json:"name"`
	State     string    `json:"state"` // ready, starting, backoff, stopped, unreachable
	Version   string    `json:"version"`
	PID       int       `json:"pid,omitempty"`
	Since     time.Time `json:"since"`
	Restarts  int       `json:"restarts"`
	Why       string    `json:"why,omitempty"` // why it is not ready, or why it restarted last
	LastLines []string  `json:"lastLines,omitempty"`
}

// Components reports on what the server runs or uses.
type Components interface {
	Components(ctx context.Context) []ComponentStatus
}
