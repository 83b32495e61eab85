package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"
)

// readConfigFile returns the keys of the file of --config with their values as
// flags take them. A key without a value counts as absent.
func readConfigFile(cmd *cobra.Command) (map[string]string, error) {
	name, _ := cmd.Flags().GetString("config")
	if name == "" {
		name = os.Getenv("SLIPWAY_CONFIG")
	}
	if name == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, usageError{fmt.Errorf("read config: %w", err)}
	}
	var values map[string]any
	if err := yaml.Unmarshal(raw, &values); err != nil {
		return nil, usageError{fmt.Errorf("config file %s: %w", name, err)}
	}
	out := map[string]string{}
	for k, v := range values {
		if v == nil {
			continue
		}
		text, err := flagValue(v)
		if err != nil {
			return nil, usageError{fmt.Errorf("config file %s: %s: %w", name, k, err)}
		}
		out[k] = text
	}
	return out, nil
}

// flagValue spells a YAML value as a flag takes it; lists have commas.
func flagValue(v any) (string, error) {
	switch v := v.(type) {
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			if _, nested := e.([]any); nested || e == nil {
				return "", fmt.Errorf("expected a list of values")
			}
			text, err := flagValue(e)
			if err != nil {
				return "", err
			}
			parts[i] = text
		}
		return strings.Join(parts, ","), nil
	case map[string]any, map[any]any:
		return "", fmt.Errorf("expected a value or a list, found a map")
	}
	return fmt.Sprint(v), nil
}

// check refuses what cannot work before anything is started.
func (c *config) check() error {
	wrong := func(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }
	for _, n := range []struct {
		name            string
		value, from, to int64
	}{
		{"routers", int64(c.Routers), 0, 16},
		{"builds", int64(c.Builds), 1, 64},
		{"build-memory", int64(c.BuildMemoryMiB), 64, 1 << 20},
		{"max-archive", c.MaxArchiveMiB, 1, 1 << 20},
		{"keep-releases", int64(c.KeepReleases), 1, 10_000},
	} {
		if n.value < n.from || n.value > n.to {
			return wrong("%s is %d, expected %d to %d", n.name, n.value, n.from, n.to)
		}
	}
	if c.BuildTimeout <= 0 || c.Watch < 0 {
		return wrong("build-timeout is %s and watch is %s, expected more than 0 and not less than 0", c.BuildTimeout, c.Watch)
	}
	for name, addr := range map[string]string{"listen": c.Listen, "router-listen": c.RouterListen} {
		if _, port, err := net.SplitHostPort(addr); err != nil || !isPort(port) {
			return wrong("%s is %q, expected HOST:PORT", name, addr)
		}
	}
	for name, subnet := range map[string]string{"instance-subnet": c.InstanceSubnet, "build-subnet": c.BuildSubnet} {
		if p, err := netip.ParsePrefix(subnet); err != nil || !p.Addr().Is4() {
			return wrong("%s is %q, expected IPv4 addresses such as 10.208.0.0/16", name, subnet)
		}
	}
	if len(c.Domains) == 0 {
		return wrong("domain is empty, expected at least one")
	}
	for _, d := range c.Domains {
		if d == "" || strings.ContainsAny(d, " \t/:*") {
			return wrong("domain is %q, expected a name such as apps.example.org", d)
		}
	}
	if err := new(slog.Level).UnmarshalText([]byte(c.LogLevel)); err != nil {
		return wrong("log-level is %q, expected debug, info, warn or error", c.LogLevel)
	}
	return nil
}

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}
