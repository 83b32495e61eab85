package paas

// Table is all that routers know: whole and self-contained. It is immutable once
// published.
type Table struct {
	Epoch   string       `json:"epoch"`   // changes when the publisher lost its history
	Version uint64       `json:"version"` // grows by one with each change within an epoch
	Apps    []RouteTable `json:"apps"`    // sorted by App
}

// RouteTable is one app's part of the table.
type RouteTable struct {
	AppID     string     `json:"appId"`
	App       string     `json:"app"`
	Hosts     []string   `json:"hosts"`   // lower case, no port
	Stopped   bool       `json:"stopped"` // answer "this app is stopped"
	Endpoints []Endpoint `json:"endpoints"`
	// NoInstance is the sentence shown when Endpoints is empty, e.g. why the first
	// deployment has not come up; "" means "no instance is running yet".
	NoInstance string `json:"noInstance,omitempty"`
	// RequestTimeoutMillis bounds the wait for response headers; 0 means 60 s.
	RequestTimeoutMillis int64 `json:"requestTimeoutMillis,omitempty"`
}

// Endpoint is one instance that may take requests. Connections are bound to
// Instance, so that a reused address never gets another instance's request.
type Endpoint struct {
	Instance string `json:"instance"` // Instance.ID
	Addr     string `json:"addr"`     // ip:port
}

// RouterReport is what a router says of itself with each acknowledgement and
// at least once a second.
type RouterReport struct {
	Router  string `json:"router"` // stable name, e.g. "router-1"
	Boot    string `json:"boot"`   // new with each start
	PID     int    `json:"pid"`
	Build   string `json:"build"` // version of the binary
	Addr    string `json:"addr"`  // listen address
	Epoch   string `json:"epoch"`
	Version uint64 `json:"version"` // last applied
	// InFlight counts requests and tunnels per instance, also of instances that left
	// the table (drained = 0 or absent).
	InFlight map[string]int `json:"inFlight"`
	// Unhealthy lists instances that this router ejected, with the reason.
	Unhealthy map[string]string `json:"unhealthy,omitempty"`
	Requests  uint64            `json:"requests"`
	Errors5xx uint64            `json:"errors5xx"` // made by the router itself
}
