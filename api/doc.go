// Package api is Slipway's REST API: an echo server that checks who asks and
// what they ask, writes wishes to the Store and shows what was observed. It
// starts nothing and builds nothing; reconcile and builder see the change and
// act. It imports internal/paas and its own folders (v1, client) and none of
// the siblings; what it needs of them comes in through Deps.
//
// The documents are in api/v1, the description for other languages in
// openapi.yaml (served at /openapi.yaml; a test holds it to the routes).
//
// Start reading at server.go (Deps, New), then routes.go (every route with the
// access it needs) and upload.go (the one path that must not lose anything).
package api
