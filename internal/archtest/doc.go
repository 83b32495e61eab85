// Package archtest holds the rules about the repository itself: who may import
// whom and that every package says what it is for. It has no code of its own;
// start reading at rules in arch_test.go.
package archtest
