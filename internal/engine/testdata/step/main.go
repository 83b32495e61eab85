// Command step is what the engine's test runs as a build step: it prints its
// cgroups and whether the addresses given as arguments can be reached, or with
// "wait" stays until it is killed.
package main

import (
	"fmt"
	"net"
	"os"
	"time"
)

func main() {
	if os.Args[1] == "wait" {
		fmt.Println("waiting")
		select {}
	}
	cgroups, err := os.ReadFile("/proc/self/cgroup")
	fmt.Printf("%s %v\n", cgroups, err)
	for _, addr := range os.Args[1:] {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
		}
		fmt.Println("dial", addr, "reached:", err == nil)
	}
	if ifaces, err := net.Interfaces(); err == nil {
		for _, i := range ifaces {
			fmt.Println("interface", i.Name)
		}
	}
	for _, kv := range os.Environ() {
		fmt.Println("env", kv)
	}
}
