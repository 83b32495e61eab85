// Package router is Slipway's data plane: the process that takes requests from
// the network and passes each to an instance of the app that its host names.
//
// It knows nothing but tables (paas.Table), which it gets from the control plane
// over a stream, confirms, and keeps on disk; with the control plane away it goes
// on with the last one, also across its own restart. See docs/contracts.md for
// the stream.
//
// It imports internal/paas and nothing else of Slipway; router/feed is the other
// end of the stream and shares no code with it.
//
// Start reading at proxy.go (the way of a request), then claim.go (why a drained
// instance is never used) and framing.go (which bytes are a request at all).
package router
