// Command slipway-init is process 1 of every instance: it starts the app's
// command, hands signals on to it, reaps orphans and ends with the command's code
// (128+n for signal n). Usage: slipway-init COMMAND [ARGUMENT…], no shell.
//
// It counts towards every instance's memory limit, so it uses little but the
// system call packages.
package main

import (
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
)

// hold as argv[0] means: stay until standard input ends. runtime/network starts
// us so to make an instance's namespaces.
const hold = "slipway-hold"

// Codes of a shell for a command that cannot be started.
const (
	notExecutable = 126
	notFound      = 127
)

func main() {
	debug.SetGCPercent(20)
	if os.Args[0] == hold {
		os.Stdin.Read(make([]byte, 1)) // until the maker of the namespaces has pinned them
		return
	}
	if len(os.Args) < 2 {
		fail(2, "no command given")
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	pid := start(os.Args[1:])
	for s := range signals {
		switch s {
		case syscall.SIGCHLD:
			if code, ended := reap(pid); ended {
				os.Exit(code)
			}
		case syscall.SIGURG: // the Go runtime's own, sent many times a second
		default:
			syscall.Kill(pid, s.(syscall.Signal)) // gone already: reap follows
		}
	}
}

func start(argv []string) int {
	path, code := lookUp(argv[0], os.Getenv("PATH"))
	if code != 0 {
		fail(code, argv[0]+": "+map[int]string{notFound: "command not found", notExecutable: "not executable"}[code])
	}
	pid, err := syscall.ForkExec(path, argv, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		fail(notExecutable, argv[0]+": "+err.Error())
	}
	return pid
}

// lookUp finds name in path as execvp does; with a slash it is taken as it is.
func lookUp(name, path string) (file string, code int) {
	if strings.Contains(name, "/") {
		return name, usable(name)
	}
	code = notFound
	for dir := range strings.SplitSeq(path, ":") {
		if dir == "" {
			dir = "."
		}
		file = dir + "/" + name
		switch usable(file) {
		case 0:
			return file, 0
		case notExecutable:
			code = notExecutable
		}
	}
	return "", code
}

func usable(file string) int {
	var st syscall.Stat_t
	const executable = 1 // X_OK of access(2)
	switch {
	case syscall.Stat(file, &st) != nil:
		return notFound
	case st.Mode&syscall.S_IFMT == syscall.S_IFDIR, syscall.Access(file, executable) != nil:
		return notExecutable
	}
	return 0
}

// reap collects all children that ended and reports whether pid was one.
func reap(pid int) (code int, ended bool) {
	for {
		var ws syscall.WaitStatus
		got, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || got <= 0 {
			return code, ended
		}
		if got != pid {
			continue
		}
		code, ended = ws.ExitStatus(), true
		if ws.Signaled() {
			code = 128 + int(ws.Signal())
		}
	}
}

func fail(code int, why string) {
	os.Stderr.WriteString("slipway-init: " + why + "\n")
	os.Exit(code)
}
