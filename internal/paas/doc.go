// Package paas is the domain of Slipway: the words of the product as Go types,
// the state transitions between them and the interfaces through which the other
// packages meet. It imports the standard library only, so that every adapter
// (store, blob, builder, runtime, router, api) can depend on it and none on
// another.
//
// Start reading at app.go, then deployment.go (what a change goes through) and
// ports.go (who implements what).
package paas
