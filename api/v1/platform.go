package v1

import "time"

// Error is the body of every answer with a status of 400 or above.
type Error struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	Hint      string `json:"hint"`
	RequestID string `json:"requestId"`
}

// Whoami says whose token was used.
type Whoami struct {
	User           string    `json:"user"`
	Org            string    `json:"org"`
	TokenLabel     string    `json:"tokenLabel"`
	TokenCreatedAt time.Time `json:"tokenCreatedAt"`
}

// Version is what the server is.
type Version struct {
	Version string `json:"version"`
	API     string `json:"api"`
	Go      string `json:"go"`
	Store   string `json:"store"`
}

// Health is the answer of GET /healthz.
type Health struct {
	Status string `json:"status"`
}

// Status is the whole installation at a glance.
type Status struct {
	Version    string      `json:"version"`
	Ready      bool        `json:"ready"` // every component is
	Components []Component `json:"components"`
	Routers    []Router    `json:"routers"`
	Builds     BuildQueue  `json:"builds"`
	Disk       Disk        `json:"disk"`
	Apps       int         `json:"apps"`
	PublicURL  string      `json:"publicUrl"`
	At         time.Time   `json:"at"`
}

// Component is a process or a service that the server runs or uses.
type Component struct {
	Name      string    `json:"name"`
	State     string    `json:"state"`
	Version   string    `json:"version"`
	PID       int       `json:"pid,omitempty"`
	Since     time.Time `json:"since,omitzero"`
	Restarts  int       `json:"restarts"`
	Why       string    `json:"why,omitempty"`
	LastLines []string  `json:"lastLines,omitempty"`
}

// Router is a router's last report.
type Router struct {
	Name      string            `json:"name"`
	PID       int               `json:"pid"`
	Version   string            `json:"version"` // of the binary
	Addr      string            `json:"addr"`
	Live      bool              `json:"live"`
	Table     uint64            `json:"table"` // version applied
	InFlight  int               `json:"inFlight"`
	Unhealthy map[string]string `json:"unhealthy,omitempty"`
	Requests  uint64            `json:"requests"`
	Errors5xx uint64            `json:"errors5xx"`
	SeenAt    time.Time         `json:"seenAt"`
}

// BuildQueue counts builds that are not final.
type BuildQueue struct {
	Queued   int `json:"queued"`
	Building int `json:"building"`
}

// Disk is the file system that holds the data folder.
type Disk struct {
	Path       string `json:"path"`
	TotalBytes uint64 `json:"totalBytes"`
	UsedBytes  uint64 `json:"usedBytes"`
	FreeBytes  uint64 `json:"freeBytes"`
}

// Event is what happened, to what, by whom, when.
type Event struct {
	ID         int64     `json:"id"`
	At         time.Time `json:"at"`
	App        string    `json:"app,omitempty"` // absent: the platform
	Kind       string    `json:"kind"`
	Deployment int64     `json:"deployment,omitempty"`
	Message    string    `json:"message"`
	By         string    `json:"by"`
}

// Events is a list, oldest first. Next is the position after its last one.
type Events struct {
	Events []Event `json:"events"`
	Next   int64   `json:"next"`
}
