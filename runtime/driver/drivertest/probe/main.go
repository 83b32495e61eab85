// Command probe is the app that the driver tests run: it serves, misbehaves on
// demand and tells what it sees from inside. Each subcommand is a word of
// drivertest or of the containerd tests; `serve` also runs any of them as a child
// (GET /run?a=WORD&a=ARG…), so that the restrictions of the app itself are seen.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var words = map[string]func(args []string){
	"serve":       serve,
	"ignore-term": ignoreTERM,
	"wrong-port":  wrongPort,
	"exit":        func(a []string) { os.Exit(number(a[0])) },
	"cat":         func([]string) { io.Copy(os.Stdout, os.Stdin) },
	"tty":         tty,
	"facts":       func([]string) { json.NewEncoder(os.Stdout).Encode(facts()) },
	"syscalls":    func([]string) { json.NewEncoder(os.Stdout).Encode(syscalls()) },
	"read":        each(func(p string) error { _, err := os.ReadFile(p); return err }),
	"list":        each(listed),
	"write":       each(func(p string) error { return os.WriteFile(p, []byte("x"), 0o600) }),
	"open-device": each(openDevice),
	"mknod":       each(func(p string) error { return syscall.Mknod(p, syscall.S_IFCHR|0o666, 1<<8|3) }),
	"dial":        dial,
	"eat":         eat,
	"fork":        fork,
	"orphans":     orphans,
	"daemon":      daemon,
	"flood":       flood,
	"lines":       lines,
}

func main() {
	f := words[os.Args[1]]
	if f == nil {
		fmt.Fprintln(os.Stderr, "unknown word", os.Args[1])
		os.Exit(2)
	}
	f(os.Args[2:])
}

func serve([]string) {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go listen()
	<-term
	fmt.Println("got SIGTERM")
}

func ignoreTERM([]string) {
	signal.Ignore(syscall.SIGTERM)
	listen()
}

func listen() {
	http.HandleFunc("/facts", func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(facts()) })
	http.HandleFunc("/run", func(w http.ResponseWriter, r *http.Request) {
		cmd := exec.Command("/proc/self/exe", r.URL.Query()["a"]...)
		cmd.Stdout, cmd.Stderr = w, w
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(w, err)
		}
	})
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		name, _ := os.Hostname()
		fmt.Fprint(w, name)
	})
	fmt.Fprintln(os.Stderr, http.ListenAndServe("0.0.0.0:"+os.Getenv("PORT"), nil))
	os.Exit(1)
}

func wrongPort([]string) {
	l, err := net.Listen("tcp4", "127.0.0.1:3000")
	if err != nil {
		panic(err)
	}
	for {
		if c, err := l.Accept(); err == nil {
			c.Close()
		}
	}
}

func tty([]string) {
	if st, _ := os.Stdout.Stat(); st.Mode()&os.ModeCharDevice != 0 {
		fmt.Println("tty")
		return
	}
	fmt.Println("no tty")
}

// each reports "PATH: ok" or "PATH: errno" for every argument.
func each(try func(string) error) func([]string) {
	return func(args []string) {
		for _, p := range args {
			fmt.Printf("%s: %s\n", p, outcome(try(p)))
		}
	}
}

func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	if pe, ok := err.(*os.PathError); ok {
		err = pe.Err
	}
	if e, ok := err.(syscall.Errno); ok {
		return errname(e)
	}
	return err.Error()
}

func listed(p string) error {
	names, err := os.ReadDir(p)
	if err == nil && len(names) == 0 {
		return fmt.Errorf("empty")
	}
	return err
}

func openDevice(p string) error {
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	if err == nil {
		f.Close()
	}
	return err
}

func dial(args []string) {
	for _, a := range args {
		c, err := net.DialTimeout("tcp", a, 1500*time.Millisecond)
		switch {
		case err == nil:
			c.Close()
			fmt.Println(a + ": open")
		case strings.Contains(err.Error(), "refused"):
			fmt.Println(a + ": refused")
		default:
			fmt.Println(a + ": " + err.Error())
		}
	}
}

func eat(args []string) {
	var all [][]byte
	for range number(args[0]) {
		b := make([]byte, 1<<20)
		for i := range b {
			b[i] = 1
		}
		all = append(all, b)
	}
	fmt.Println("ate", len(all), "MiB")
}

// fork starts sleeping children until one cannot be started.
func fork(args []string) {
	var got int
	var failed error
	for range number(args[0]) {
		cmd := exec.Command("/proc/self/exe", "cat")
		if _, err := cmd.StdinPipe(); err != nil {
			failed = err
			break
		}
		if failed = cmd.Start(); failed != nil {
			break
		}
		got++
	}
	fmt.Println("forked", got, outcomeOf(failed))
}

func outcomeOf(err error) string {
	if err == nil {
		return "all"
	}
	return "then: " + err.Error()
}

// orphans leaves n processes behind that end at once and have no parent but
// process 1, then reports what is left of them.
func orphans(args []string) {
	n := number(args[0])
	if len(args) > 1 { // the middle generation: start one child and go
		exec.Command("/proc/self/exe", "exit", "0").Start()
		return
	}
	before, _ := processes()
	for range n {
		exec.Command("/proc/self/exe", "orphans", "1", "middle").Run()
	}
	deadline := time.Now().Add(10 * time.Second)
	all, zombies := processes()
	for all > before && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond) // poll
		all, zombies = processes()
	}
	fmt.Println("left", all-before, "zombies", zombies)
}

func processes() (all, zombies int) {
	dirs, _ := os.ReadDir("/proc")
	for _, d := range dirs {
		b, err := os.ReadFile("/proc/" + d.Name() + "/stat")
		if err != nil || d.Name()[0] > '9' {
			continue
		}
		all++
		if strings.Contains(string(b), ") Z ") {
			zombies++
		}
	}
	return all, zombies
}

// daemon leaves a process in a session of its own that ignores SIGTERM.
func daemon(args []string) {
	if len(args) == 0 {
		cmd := exec.Command("/proc/self/exe", "daemon", "child")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		fmt.Println("daemon", cmd.Start() == nil)
		return
	}
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP)
	select {}
}

// flood writes this many MiB as fast as it can and says how long it took.
func flood(args []string) {
	line := []byte(strings.Repeat("f", 99) + "\n")
	began := time.Now()
	for range number(args[0]) * (1 << 20) / len(line) {
		os.Stdout.Write(line)
	}
	fmt.Fprintln(os.Stderr, "flooded in", time.Since(began).Milliseconds(), "ms")
}

// lines writes a numbered line every 10 ms, for ever.
func lines([]string) {
	go listen()
	for i := 0; ; i++ {
		fmt.Println("line", i)
		time.Sleep(10 * time.Millisecond)
	}
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}
