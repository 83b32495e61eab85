package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// loadConfig is what `slipway server ARGS` would run with.
func loadConfig(t *testing.T, args ...string) (config, error) {
	t.Helper()
	var c config
	cmd := &cobra.Command{Use: "server", RunE: func(cmd *cobra.Command, _ []string) error { return c.load(cmd) }, SilenceErrors: true, SilenceUsage: true}
	c.register(cmd.Flags())
	cmd.Flags().String("config", "", "")
	cmd.SetArgs(append([]string{}, args...)) // nil would be those of the process
	err := cmd.Execute()
	return c, err
}

func configFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "slipway.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestConfig_Precedence_FlagEnvFileDefault(t *testing.T) {
	alone(t)
	file := configFile(t, "watch: 2s\nbuilds: 3\nlog-level: warn\nrouters: 1\n")
	t.Setenv("SLIPWAY_WATCH", "3s")
	t.Setenv("SLIPWAY_BUILDS", "4")
	t.Setenv("SLIPWAY_ROUTERS", "") // empty is not given
	c, err := loadConfig(t, "--config", file, "--watch", "4s")
	if err != nil {
		t.Fatal(err)
	}
	if c.Watch != 4*time.Second || c.Builds != 4 || c.LogLevel != "warn" || c.Routers != 1 || c.KeepReleases != 10 {
		t.Errorf("watch %s (flag 4s), builds %d (env 4), log-level %s (file warn), routers %d (file 1), keep-releases %d (default 10)",
			c.Watch, c.Builds, c.LogLevel, c.Routers, c.KeepReleases)
	}
	t.Setenv("SLIPWAY_CONFIG", file)
	if c, err = loadConfig(t); err != nil || c.Watch != 3*time.Second {
		t.Errorf("with SLIPWAY_CONFIG: watch %s, error %v", c.Watch, err)
	}
}

func TestConfig_FlagsOfTheVerbOnly_AreNoKeys(t *testing.T) {
	alone(t)
	t.Setenv("SLIPWAY_HELP", "true")
	if _, err := loadConfig(t, "--config", configFile(t, "help: true\n")); err == nil || !strings.Contains(err.Error(), "unknown keys: help") {
		t.Errorf("error %v", err)
	}
}

func TestConfig_Values_OfFilesAndEnvironment(t *testing.T) {
	alone(t)
	for _, c := range []struct {
		name, file, env string
		want            []string
	}{
		{"list", "domain: [a.example, b.example]", "", []string{"a.example", "b.example"}},
		{"one value", "domain: a.example", "", []string{"a.example"}},
		{"commas", "domain: a.example,b.example", "", []string{"a.example", "b.example"}},
		{"environment", "domain: c.example", "a.example,b.example", []string{"a.example", "b.example"}},
		{"key without a value", "domain:\npublic-url:\n", "", []string{"localhost"}},
		{"empty file", "", "", []string{"localhost"}},
		{"comment only", "# nothing\n", "", []string{"localhost"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("SLIPWAY_DOMAIN", c.env)
			got, err := loadConfig(t, "--config", configFile(t, c.file))
			if err != nil || !slices.Equal(got.Domains, c.want) || got.PublicURL != "http://127.0.0.1:8700" {
				t.Errorf("domains %q (want %q), public URL %q, error %v", got.Domains, c.want, got.PublicURL, err)
			}
		})
	}
}

func TestConfig_Wrong_IsAUsageError(t *testing.T) {
	alone(t)
	for _, c := range []struct{ file, says string }{
		{"listn: x", "unknown keys: listn"},
		{"b: 1\na: 2", "unknown keys: a, b"},
		{"s3:\n  endpoint: x", "found a map"},
		{"domain:\n  - {a: b}", "found a map"},
		{"domain: [[a]]", "expected a list of values"},
		{"domain: [a,]\nbuilds: two", `builds "two"`},
		{"builds: 0", "builds is 0, expected 1 to 64"},
		{"builds: 1.5", `builds "1.5"`},
		{"watch: 15", `watch "15"`},
		{"watch: -1s", "watch is -1s"},
		{"build-timeout: 0s", "build-timeout is 0s"},
		{"build-memory: 1", "build-memory is 1"},
		{"max-archive: 0", "max-archive is 0"},
		{"keep-releases: 0", "keep-releases is 0"},
		{"routers: -1", "routers is -1"},
		{"s3-tls: perhaps", `s3-tls "perhaps"`},
		{"listen: 8700", `listen is "8700"`},
		{"listen: 127.0.0.1:http", "expected HOST:PORT"},
		{"router-listen: 127.0.0.1:99999", "expected HOST:PORT"},
		{"instance-subnet: 10.0.0.0", "instance-subnet is"},
		{"build-subnet: fd00::/64", "build-subnet is"},
		{"domain: []", "domain is"},
		{"domain: https://apps.example", "expected a name such as"},
		{"log-level: loud", `log-level is "loud"`},
		{"- a\n- b", "config file"},
		{"a: [", "config file"},
		{"listen: a:1\nlisten: b:2", "already defined"},
	} {
		_, err := loadConfig(t, "--config", configFile(t, c.file))
		if err == nil || exitCode(err) != exitUsage || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: error %v, want a usage error with %q", c.file, err, c.says)
		}
	}
	t.Setenv("SLIPWAY_BUILDS", "many")
	if _, err := loadConfig(t); err == nil || !strings.Contains(err.Error(), "SLIPWAY_BUILDS") {
		t.Errorf("wrong value in the environment: error %v", err)
	}
}

func TestConfig_Remember_Recall(t *testing.T) {
	alone(t)
	data := t.TempDir()
	if err := os.Mkdir(filepath.Join(data, "run"), 0o711); err != nil {
		t.Fatal(err)
	}
	first, err := loadConfig(t, "--data", data, "--listen", "127.0.0.1:1", "--s3-secret-key", "s3cret", "--domain", "a.example,b.example", "--engine", "/e1", "--routers", "5")
	if err != nil {
		t.Fatal(err)
	}
	if err := first.remember(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(data, "run", "server.json")
	b, err := os.ReadFile(name)
	if err != nil || strings.Contains(string(b), "s3cret") {
		t.Fatalf("error %v, kept %s", err, b)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v; want 0600", info.Mode(), err)
	}

	var c config
	cmd := &cobra.Command{RunE: func(cmd *cobra.Command, _ []string) error {
		if err := c.load(cmd); err != nil {
			return err
		}
		return c.recall(cmd)
	}}
	c.register(cmd.Flags())
	cmd.SetArgs([]string{"--data", data, "--engine", "/e2", "--database", "sqlite:/x", "--s3-secret-key", "now"})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	if c.Engine != "/e2" || c.Database != "sqlite:/x" || c.S3Secret != "now" {
		t.Errorf("given flags lost: engine %s, database %s, secret %s", c.Engine, c.Database, c.S3Secret)
	}
	if c.Listen != "127.0.0.1:1" || c.Routers != 5 || !slices.Equal(c.Domains, []string{"a.example", "b.example"}) || c.Data != data {
		t.Errorf("recalled %+v", c)
	}

	if err := os.WriteFile(name, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.recall(cmd); err == nil || !strings.Contains(err.Error(), "remembered") {
		t.Errorf("broken file: error %v", err)
	}
	c.Data = t.TempDir()
	if err := c.recall(cmd); err != nil {
		t.Errorf("nothing remembered: error %v", err)
	}
}

func TestConfig_RelativeData_BecomesAbsolute(t *testing.T) {
	alone(t)
	c, err := loadConfig(t, "--data", "relative")
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(c.Data) || c.Database != "sqlite:"+c.Data+"/slipway.db" || len(c.id()) != 6 {
		t.Errorf("data %s, database %s, id %s", c.Data, c.Database, c.id())
	}
}
