// Package logfile is how the output of instances is kept: one file per instance,
// DATA/logs/apps/<app>/<instance>.log, written by cmd/slipway-sink and read by the
// server. Files outlive their instance until Prune or Remove.
//
// A file begins with a header line that says whose it is; every other line is
//
//	2026-01-02T15:04:05.000000000Z o text of the line
//
// with the stream as one letter: o (stdout), e (stderr), s (a mark of Slipway's).
// The text is kept byte for byte; a line feed is the only byte it cannot hold.
// A file that reached its size becomes <instance>.log.1, .1 becomes .2 and so on.
// A last line without line feed was cut off by a crash and is not shown.
//
// It imports internal/paas only. Start reading at format.go, then writer.go (the
// sink's side) and reader.go (the server's).
package logfile
