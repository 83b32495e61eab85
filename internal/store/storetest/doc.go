// Package storetest is the suite that every paas.Store passes, and the real
// PostgreSQL server that it runs against. It imports internal/paas and the
// standard library only, so that it can tell nothing but what the contract says.
//
// Start reading at Run.
package storetest
