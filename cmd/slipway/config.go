package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slipway-paas/slipway/internal/atomicfile"
	"github.com/slipway-paas/slipway/internal/paas"
)

// config is how one server runs. Each field is a flag; the same name in upper
// case with SLIPWAY_ is its environment variable, and the same name is its key in
// the file of --config. Flag wins over environment over file over default.
type config struct {
	Data         string
	Listen       string
	RouterListen string
	Routers      int
	Domains      []string
	PublicURL    string
	Engine       string
	Database     string

	Containerd string
	BuildKit   string
	S3Endpoint string
	S3Access   string
	S3Secret   string
	S3Bucket   string
	S3TLS      bool

	InstanceSubnet string
	BuildSubnet    string
	Builds         int
	BuildTimeout   time.Duration
	BuildMemoryMiB int
	MaxArchiveMiB  int64
	KeepReleases   int
	Watch          time.Duration
	LogLevel       string
}

// register declares the flags with their defaults.
func (c *config) register(f *pflag.FlagSet) {
	f.StringVar(&c.Data, "data", "/var/lib/slipway", "folder that holds everything")
	f.StringVar(&c.Listen, "listen", "127.0.0.1:8700", "address of the API")
	f.StringVar(&c.RouterListen, "router-listen", "127.0.0.1:8780", "address at which apps answer")
	f.IntVar(&c.Routers, "routers", 2, "router processes that share router-listen; 0 = none on this machine")
	f.StringSliceVar(&c.Domains, "domain", []string{"localhost"}, "apps answer at <app>.<domain>; may be repeated")
	f.StringVar(&c.PublicURL, "public-url", "", "how users reach the API (default http://<listen>)")
	f.StringVar(&c.Engine, "engine", defaultEngineDir(), "folder with containerd, runc, buildkitd, CNI plugins, S3 gateway")
	f.StringVar(&c.Database, "database", "", "sqlite:/path or postgres://… (default sqlite in the data folder)")

	f.StringVar(&c.Containerd, "containerd", "", "socket of a containerd to use instead of an own one")
	f.StringVar(&c.BuildKit, "buildkit", "", "address of a buildkitd to use instead of an own one")
	f.StringVar(&c.S3Endpoint, "s3-endpoint", "", "host:port of an S3 service to use instead of the own gateway")
	f.StringVar(&c.S3Access, "s3-access-key", "", "access key for s3-endpoint")
	f.StringVar(&c.S3Secret, "s3-secret-key", "", "secret key for s3-endpoint; better by environment or file")
	f.StringVar(&c.S3Bucket, "s3-bucket", "slipway", "bucket for archives and logs")
	f.BoolVar(&c.S3TLS, "s3-tls", false, "speak HTTPS to s3-endpoint")

	f.StringVar(&c.InstanceSubnet, "instance-subnet", "10.208.0.0/16", "addresses of instances")
	f.StringVar(&c.BuildSubnet, "build-subnet", "10.209.0.0/16", "addresses of build steps")
	f.IntVar(&c.Builds, "builds", 2, "builds at the same time")
	f.DurationVar(&c.BuildTimeout, "build-timeout", 15*time.Minute, "deadline of a build")
	f.IntVar(&c.BuildMemoryMiB, "build-memory", 2048, "memory limit of one build, MiB")
	f.Int64Var(&c.MaxArchiveMiB, "max-archive", 1024, "largest archive accepted, MiB")
	f.IntVar(&c.KeepReleases, "keep-releases", 10, "releases kept for rollback, per app")
	f.DurationVar(&c.Watch, "watch", paas.DefaultWatch, "how long a new release is watched after it took over")
	f.StringVar(&c.LogLevel, "log-level", "info", "debug, info, warn or error")
}

// load fills what no flag set from the environment, then from the file named by
// --config, and checks the result.
func (c *config) load(cmd *cobra.Command) error {
	file, err := readConfigFile(cmd)
	if err != nil {
		return err
	}
	var own pflag.FlagSet // not --help and what else the verb has
	new(config).register(&own)
	var firstErr error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if own.Lookup(f.Name) == nil {
			return
		}
		value, source, ok := "", "", false
		env := "SLIPWAY_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if v, set := file[f.Name]; set {
			value, source, ok = v, "config file", true
			delete(file, f.Name)
		}
		if v, set := os.LookupEnv(env); set && v != "" {
			value, source, ok = v, env, true
		}
		if !ok || f.Changed || firstErr != nil {
			return
		}
		if err := f.Value.Set(value); err != nil {
			firstErr = usageError{fmt.Errorf("%s: %s %q: %w", source, f.Name, value, err)}
		}
	})
	if firstErr != nil {
		return firstErr
	}
	if len(file) > 0 {
		return usageError{fmt.Errorf("config file has unknown keys: %s", strings.Join(sortedKeys(file), ", "))}
	}
	return c.complete()
}

func (c *config) complete() error {
	abs, err := filepath.Abs(c.Data)
	if err != nil {
		return err
	}
	c.Data = abs
	if c.Database == "" {
		c.Database = "sqlite:" + filepath.Join(c.Data, "slipway.db")
	}
	if c.PublicURL == "" {
		c.PublicURL = "http://" + c.Listen
	}
	return c.check()
}

// id names the installation outside its data folder, see docs/contracts.md.
func (c *config) id() string {
	sum := sha256.Sum256([]byte(c.Data))
	return hex.EncodeToString(sum[:])[:6]
}

// remember keeps how the server runs, so that `slipway down` and `slipway admin`
// need --data only. Secrets are left out.
func (c *config) remember() error {
	kept := *c
	kept.S3Secret = ""
	b, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(c.path("run", "server.json"), b, 0o600)
}

// recall takes over what the last server on this data folder remembered, but for
// flags that were given.
func (c *config) recall(cmd *cobra.Command) error {
	b, err := os.ReadFile(c.path("run", "server.json"))
	if os.IsNotExist(err) {
		return nil
	}
	var kept config
	if err == nil {
		err = json.Unmarshal(b, &kept)
	}
	if err != nil {
		return fmt.Errorf("read what the last server remembered: %w", err)
	}
	given := *c
	*c = kept
	c.Data, c.S3Secret = given.Data, given.S3Secret
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if take := takeGiven[f.Name]; take != nil {
			take(c, &given)
		}
	})
	return nil
}

// takeGiven has the flags that may be given anew to a verb that recalls: those
// that say where things are now. How they were made is remembered.
var takeGiven = map[string]func(c, given *config){
	"database":    func(c, given *config) { c.Database = given.Database },
	"engine":      func(c, given *config) { c.Engine = given.Engine },
	"containerd":  func(c, given *config) { c.Containerd = given.Containerd },
	"buildkit":    func(c, given *config) { c.BuildKit = given.BuildKit },
	"s3-endpoint": func(c, given *config) { c.S3Endpoint = given.S3Endpoint },
}

func (c *config) path(elem ...string) string {
	return filepath.Join(append([]string{c.Data}, elem...)...)
}

func (c *config) controlSocket() string { return c.path("run", "control.sock") }

// defaultEngineDir is the folder `engine` beside this binary, where `make engine`
// puts the daemons.
func defaultEngineDir() string {
	exe, err := os.Executable()
	if err != nil {
		return "engine"
	}
	return filepath.Join(filepath.Dir(exe), "engine")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
