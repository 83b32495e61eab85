// Package v1 holds the JSON documents of Slipway's REST API, version 1: what
// the server writes and the client reads. It has no behaviour and imports the
// standard library only, so that both sides, and tests, can share it.
//
// Names are camelCase, times RFC 3339 in UTC, sizes carry their unit in the
// name. A field that is absent does not apply (yet). openapi.yaml in the parent
// folder says the same for people and other languages; a test compares them.
//
// Start reading at app.go, then deployment.go.
package v1
