package source

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"sort"
	"strings"

	"github.com/slipway-paas/slipway/buildpacks/accfile"
	"github.com/slipway-paas/slipway/buildpacks/plan"
	"github.com/slipway-paas/slipway/internal/paas"
)

// Source is the tree with the files that mean the same for every language.
type Source struct {
	FS           fs.FS
	Catalog      Catalog
	Manifest     *accfile.Manifest // never nil
	ManifestFrom string            // "manifest.json" or "manifest.json given beside the archive"; "" = none
	deployment   *accfile.Deployment
	deployFrom   string
	procfile     map[string]string
}

// Read reads the files every language has in common. Errors: *paas.Error with
// CodeInvalid, *FailureError, or the tree's own.
func Read(in Input) (*Source, error) {
	s := &Source{FS: in.FS, Catalog: in.Catalog, Manifest: &accfile.Manifest{}, deployment: &accfile.Deployment{}}
	text, from, err := s.override("manifest.json", in.Manifest)
	if err != nil {
		return nil, err
	}
	if from != "" {
		if s.Manifest, err = accfile.ParseManifest(text); err != nil {
			return nil, err
		}
		s.ManifestFrom = from
	}
	text, from, err = s.override("deployment.json", in.Deployment)
	if err != nil {
		return nil, err
	}
	if from != "" {
		if s.deployment, err = accfile.ParseDeployment(text); err != nil {
			return nil, err
		}
		s.deployFrom = from
	}
	text, err = s.ReadFile("Procfile")
	if err != nil {
		return nil, err
	}
	s.procfile = parseProcfile(text)
	return s, nil
}

// override returns the text given beside the archive, else the file inside.
func (s *Source) override(name string, given []byte) (text []byte, from string, err error) {
	if len(given) > 0 {
		return given, name + " given beside the archive", nil
	}
	text, err = s.ReadFile(name)
	if err != nil || text == nil {
		return nil, "", err
	}
	return text, name, nil
}

// ReadFile returns a small file; nil when it is absent.
func (s *Source) ReadFile(name string) ([]byte, error) {
	f, err := s.FS.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, nil
	}
	b, err := io.ReadAll(io.LimitReader(f, maxConfigFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > maxConfigFileBytes {
		return nil, Failf(FailInvalidFile, "make it smaller", "%s is larger than %d bytes", name, maxConfigFileBytes)
	}
	return append([]byte{}, b...), nil // never nil: empty is not absent
}

// Open is for files that may be large (lock files); nil when absent.
func (s *Source) Open(name string) fs.File {
	f, err := s.FS.Open(name)
	if err != nil {
		return nil
	}
	return f
}

// IsFile reports whether name is a regular file.
func (s *Source) IsFile(name string) bool {
	info, err := fs.Stat(s.FS, name)
	return err == nil && info.Mode().IsRegular()
}

// IsDir reports whether name is a folder.
func (s *Source) IsDir(name string) bool {
	info, err := fs.Stat(s.FS, name)
	return err == nil && info.IsDir()
}

// UserEnv is deployment.json's environment; nil if there is none.
func (s *Source) UserEnv() map[string]string { return s.deployment.Environment }

var procfileLine = regexp.MustCompile(`^([A-Za-z0-9_-]+)\s*:\s*(.+)$`)

func parseProcfile(text []byte) map[string]string {
	out := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxConfigFileBytes+1)
	for lines.Scan() {
		if m := procfileLine.FindStringSubmatch(strings.TrimSpace(lines.Text())); m != nil {
			out[m[1]] = strings.TrimSpace(m[2])
		}
	}
	return out
}

// AppType decides web or worker and says why.
func (s *Source) AppType() (paas.AppType, string) {
	switch {
	case s.Manifest.Type != "":
		return s.Manifest.Type, "type in " + s.ManifestFrom
	case s.procfile["web"] == "" && s.procfile["worker"] != "":
		return paas.TypeWorker, "the Procfile has a worker and no web"
	}
	return paas.TypeWeb, "default"
}

// Command is the start command that does not depend on the language.
func (s *Source) Command(t paas.AppType) (command, why string) {
	if s.Manifest.Command != "" {
		return s.Manifest.Command, "command in " + s.ManifestFrom
	}
	if c := s.procfile[string(t)]; c != "" {
		return c, string(t) + " in Procfile"
	}
	return "", ""
}

// Apply adds what every language has in common to a plan.
func (s *Source) Apply(p *plan.Plan) {
	m, d := s.Manifest, s.deployment
	t, why := s.AppType()
	p.Type = t
	p.Decide("type", string(t), why)
	s.applyHealth(p)

	p.Grace, why = paas.DefaultShutdownGrace, "default"
	if m.ShutdownTime != nil {
		p.Grace, why = *m.ShutdownTime, "shutdownTime in "+s.ManifestFrom
	}
	p.Decide("shutdown", p.Grace.String(), why)

	p.Release = m.Release
	p.Memory, p.Count = d.MemoryBytes, d.Instances
	if p.Memory > 0 {
		p.Decide("memory", fmt.Sprintf("%d MiB", p.Memory>>20), "memory in "+s.deployFrom)
	}
	if p.Count > 0 {
		p.Decide("instances", fmt.Sprint(p.Count), "instances in "+s.deployFrom)
	}
	for name := range d.Environment {
		p.EnvVars = append(p.EnvVars, name)
	}
	sort.Strings(p.EnvVars)
	if len(p.EnvVars) > 0 {
		p.Decide("environment", strings.Join(p.EnvVars, ", "), "environment in "+s.deployFrom)
	}
	s.warn(p)
}

func (s *Source) applyHealth(p *plan.Plan) {
	m := s.Manifest
	p.Health.StartupTime = paas.DefaultStartupTime
	why := "default"
	if m.StartupTime > 0 {
		p.Health.StartupTime, why = m.StartupTime, "startupTime in "+s.ManifestFrom
	}
	p.Decide("startup", p.Health.StartupTime.String(), why)
	if p.Type == paas.TypeWorker {
		return
	}
	if m.HealthPath != "" {
		p.Health.Path, p.Health.Strict = m.HealthPath, true
		p.Decide("health", "GET "+m.HealthPath+" answers 200", "healthCheck in "+s.ManifestFrom)
		return
	}
	p.Health.Path = "/"
	p.Decide("health", "GET / answers below 500", "default")
}

// warn says what was read and has no effect.
func (s *Source) warn(p *plan.Plan) {
	say := func(from, what string, names []string) {
		if len(names) > 0 {
			p.Warnings = append(p.Warnings, fmt.Sprintf("%s: %s: %s", from, what, strings.Join(names, ", ")))
		}
	}
	say(s.ManifestFrom, "no effect yet", s.Manifest.Unused)
	say(s.ManifestFrom, "unknown, ignored", s.Manifest.Unknown)
	say(s.deployFrom, "no effect yet", s.deployment.Unused)
	say(s.deployFrom, "unknown, ignored", s.deployment.Unknown)
	var others []string
	for name := range s.procfile {
		if name != string(p.Type) {
			others = append(others, name)
		}
	}
	sort.Strings(others)
	say("Procfile", "not run by Slipway yet", others)
}
