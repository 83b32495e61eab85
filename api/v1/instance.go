package v1

import "time"

// Instance is one running copy as last observed.
type Instance struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"` // web.1
	App        string    `json:"app"`
	Deployment int64     `json:"deployment"`
	Release    int       `json:"release"`
	Slot       int       `json:"slot"`
	State      string    `json:"state"` // starting, healthy, unhealthy, draining, exited, crashed
	Addr       string    `json:"addr,omitempty"`
	StartedAt  time.Time `json:"startedAt,omitzero"`
	ExitCode   *int      `json:"exitCode,omitempty"`
	ExitReason string    `json:"exitReason,omitempty"`
	ExitedAt   time.Time `json:"exitedAt,omitzero"`
	RestartAt  time.Time `json:"restartAt,omitzero"`
	Restarts   int       `json:"restarts"`
	Probe      string    `json:"probe,omitempty"`
	Restricted string    `json:"restricted,omitempty"`
	MemoryMiB  float64   `json:"memoryMiB"` // used
	CPUMillis  int64     `json:"cpuMillis"` // used, of the last interval
	SeenAt     time.Time `json:"seenAt,omitzero"`
}

// Instances is a list, by slot, then deployment.
type Instances struct {
	Instances []Instance `json:"instances"`
}

// LogLine is one line of an instance's output.
type LogLine struct {
	At         time.Time `json:"at"`
	InstanceID string    `json:"instanceId"`
	Instance   string    `json:"instance"` // web.1
	Release    int       `json:"release"`
	Stream     string    `json:"stream"` // stdout, stderr, slipway
	Text       string    `json:"text"`
}

// Channels of an exec WebSocket: the first byte of every binary frame. A frame
// of ChannelStdin with nothing after it closes stdin. ChannelResize carries
// columns and rows, two big-endian uint16. ChannelExit carries the exit code, a
// big-endian int32, and is the last frame. ChannelError carries an Error as
// JSON and is the last frame, too.
const (
	ChannelStdin  byte = 0
	ChannelStdout byte = 1
	ChannelStderr byte = 2
	ChannelResize byte = 3
	ChannelExit   byte = 4
	ChannelError  byte = 5
)
