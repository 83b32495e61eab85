// Command slipway-sink writes the output of one instance to its log file. The
// containerd shim starts it for the log URI of the task
// (binary-v2:///path/slipway-sink?file=…&slot=…&release=…&uid=…), gives it the
// instance's stdout and stderr as file descriptors 3 and 4 and waits until one
// byte arrives on 5. So output flows with the server and containerd gone.
//
// It runs once per instance, so it imports as little as it can. Start reading at
// main, then internal/logfile.
package main

import (
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/slipway-paas/slipway/internal/logfile"
)

// drain is how long output is still read after the shim asked to end. The shim
// itself gives 12 s (containerd-shim-runc-v2, process/io.go).
const drain = 2 * time.Second

func main() {
	// One instance of this per app instance: memory matters more than speed.
	debug.SetGCPercent(30)
	file, owner, h := arguments(os.Args[1:])
	if file == "" {
		os.Stderr.WriteString("slipway-sink: no file given\n")
		os.Exit(2)
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)

	w := logfile.NewWriter(file, h, 0)
	written := make(chan struct{})
	go func() {
		w.Run()
		close(written)
	}()
	var streams sync.WaitGroup
	stdout, stderr := os.NewFile(3, "stdout"), os.NewFile(4, "stderr")
	if owner > 0 {
		// Apps that open /dev/stdout anew need to own the pipe, and runc cannot give it
		// to a user of another namespace. If it fails, only those apps are hurt.
		stdout.Chown(owner, owner)
		stderr.Chown(owner, owner)
	}
	streams.Go(func() { pump(w, logfile.Stdout, stdout) })
	streams.Go(func() { pump(w, logfile.Stderr, stderr) })
	ready()

	read := make(chan struct{})
	go func() {
		streams.Wait()
		close(read)
	}()
	select {
	case <-read:
	case <-term:
		select { // what is still in the pipes belongs to the log
		case <-read:
		case <-time.After(drain):
		}
	}
	w.Close()
	<-written
}

// arguments reads the pairs that the shim makes of the URI's query.
func arguments(args []string) (file string, owner int, h logfile.Header) {
	h.Instance = os.Getenv("CONTAINER_ID")
	for i := 0; i+1 < len(args); i += 2 {
		switch args[i] {
		case "file":
			file = args[i+1]
		case "uid":
			owner, _ = strconv.Atoi(args[i+1]) // 0 = leave it
		case "slot":
			h.Slot, _ = strconv.Atoi(args[i+1]) // 0 = not known
		case "release":
			h.Release, _ = strconv.Atoi(args[i+1])
		}
	}
	return file, owner, h
}

func pump(w *logfile.Writer, stream byte, f *os.File) {
	buf := make([]byte, 16<<10)
	for {
		n, err := f.Read(buf)
		w.Write(stream, buf[:n])
		if err != nil {
			return // end of file: the instance and the shim closed it
		}
	}
}

// ready tells the shim that the instance may start.
func ready() {
	f := os.NewFile(5, "ready")
	f.Write([]byte{0}) // if the shim is gone, the streams end as well
	f.Close()
}
