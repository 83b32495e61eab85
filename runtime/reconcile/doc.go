// Package reconcile makes the machine follow what is stored: it starts, probes,
// routes, drains and stops instances until what runs is what the apps want, and
// carries deployments from rolling to their end.
//
// Every decision is made by two pure functions from what is stored and what is
// observed: Desired (what should exist and take requests) and Diff (which steps
// are allowed now). core keeps what was observed and runs both; Loop feeds it
// and carries the steps out. Nothing is remembered that a restart needs.
//
// It imports internal/paas and runtime/driver, never a store, a router or a
// driver's implementation. Start reading at desired.go, then diff.go and core.go.
package reconcile
