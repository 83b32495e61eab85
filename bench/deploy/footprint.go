package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// idle is how long the idle platform is watched.
const idle = 60 * time.Second

// footprint reports memory and idle CPU of the platform with one small app
// running: the proportional set size, which counts shared pages once.
func (b *bench) footprint() error {
	control, err := b.processes("slipway")
	if err != nil {
		return err
	}
	engine, err := b.processes("containerd", "buildkitd", "versitygw")
	if err != nil {
		return err
	}
	before, err := cpuTime(append(control, engine...))
	if err != nil {
		return err
	}
	time.Sleep(idle) // what is measured is an idle minute
	after, err := cpuTime(append(control, engine...))
	if err != nil {
		return err
	}
	c, err := memory(control)
	if err != nil {
		return err
	}
	e, err := memory(engine)
	if err != nil {
		return err
	}
	b.report.Add("memory-server-routers", c, "MB", 100, "server and %d routers", len(control)-1)
	b.report.Add("memory-engine", e, "MB", 0, "containerd, buildkitd, S3 gateway")
	b.report.Add("idle-cpu", 100*(after-before).Seconds()/idle.Seconds(), "%", 1, "of one core over %s, server, routers and engine", idle)
	return nil
}

// processes finds this platform's processes by program and data folder.
func (b *bench) processes(programs ...string) ([]int, error) {
	var pids []int
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	for _, d := range dirs {
		line, err := os.ReadFile(filepath.Join(d, "cmdline"))
		if err != nil {
			continue // it ended
		}
		args := strings.Split(string(bytes.TrimRight(line, "\x00")), "\x00")
		for _, p := range programs {
			if filepath.Base(args[0]) == p && strings.Contains(string(line), b.p.Data) {
				pid, err := strconv.Atoi(filepath.Base(d))
				if err != nil {
					return nil, err
				}
				pids = append(pids, pid)
			}
		}
	}
	if len(pids) < len(programs) {
		return nil, fmt.Errorf("found %d processes of %v", len(pids), programs)
	}
	return pids, nil
}

// memory sums the proportional set sizes, in MB.
func memory(pids []int) (float64, error) {
	var kb float64
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) == 3 && f[0] == "Pss:" {
				n, err := strconv.ParseFloat(f[1], 64)
				if err != nil {
					return 0, err
				}
				kb += n
			}
		}
	}
	return kb * 1024 / 1e6, nil
}

// cpuTime sums user and system time; fields 14 and 15 of proc(5)'s stat, in
// hundredths of a second.
func cpuTime(pids []int) (time.Duration, error) {
	var ticks int64
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		for _, field := range f[11:13] {
			n, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, err
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
