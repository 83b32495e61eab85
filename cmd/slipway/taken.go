package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/internal/supervise"
	"github.com/slipway-paas/slipway/runtime/network"
)

// listenAPI takes the API's port before anything is started.
func (s *system) listenAPI(context.Context) (err error) {
	s.listener, err = net.Listen("tcp", s.config.Listen)
	return portTaken(err, "listen", s.config.Listen)
}

// portTaken words the one error of a listen that users can mend.
func portTaken(err error, flag, addr string) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	_, port, _ := net.SplitHostPort(addr) // it was listened on: well-formed
	return paas.Errorf(paas.CodeConflict, "port %s is taken: another process listens on %s", port, addr).
		WithHint("choose another --%s, or stop that process (ss -ltnp 'sport = :%s' names it)", flag, port).WithCause(err)
}

// routerPortFree makes sure that the routers' port is theirs alone. Routers share
// it by SO_REUSEPORT, so another Slipway's of the same user would share it as
// well, and half of the requests would end there.
func routerPortFree(c *config) error {
	if c.Routers == 0 {
		return nil
	}
	for _, name := range knownRouters(c) {
		pid := supervise.FindLeftover(routerPID(c, name), routerMarker(c, name))
		if pid == 0 {
			continue
		}
		args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && slices.ContainsFunc(bytes.Split(args, []byte{0}), func(a []byte) bool { return string(a) == c.RouterListen }) {
			return nil // one of ours has it, so it was free then
		}
	}
	l, err := net.Listen("tcp", c.RouterListen)
	if err != nil {
		return portTaken(err, "router-listen", c.RouterListen)
	}
	return l.Close()
}

// endSurplusRouters stops the routers of an earlier server that ran more of them:
// nobody would watch over them, or stop them when the address changes.
func endSurplusRouters(c *config, names []string, log *slog.Logger) {
	for _, name := range knownRouters(c) {
		if slices.Contains(names, name) {
			continue
		}
		if err := supervise.StopLeftover(context.Background(), routerPID(c, name), routerMarker(c, name), routerGrace); err != nil {
			log.Warn("stop router that is not wanted any more", "router", name, "err", err)
		}
	}
}

func (s *system) checkAddresses(context.Context) error {
	return errors.Join(routerPortFree(s.config), s.checkSubnets())
}

// checkSubnets refuses addresses that something else on this machine has: it
// would work for neither.
func (s *system) checkSubnets() error {
	c := s.config
	subnets := map[string]netip.Prefix{"instance-subnet": netip.MustParsePrefix(c.InstanceSubnet)} // config.check parsed them
	if c.BuildKit == "" {
		subnets["build-subnet"] = netip.MustParsePrefix(c.BuildSubnet)
		if subnets["build-subnet"].Overlaps(subnets["instance-subnet"]) {
			return usageError{fmt.Errorf("build-subnet %s overlaps instance-subnet %s, expected two separate networks", c.BuildSubnet, c.InstanceSubnet)}
		}
	}
	for flag, subnet := range subnets {
		what, err := network.Conflict(c.id(), subnet)
		if err != nil {
			return err
		}
		if what != "" {
			return paas.Errorf(paas.CodeConflict, "%s %s is in use on this machine: %s", flag, subnet, what).
				WithHint("choose other private addresses with --%s, or remove what has them", flag)
		}
	}
	return nil
}
