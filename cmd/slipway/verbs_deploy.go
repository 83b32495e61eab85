package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/slipway-paas/slipway/api/client"
	v1 "github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/bundle"
	"github.com/slipway-paas/slipway/internal/paas"
)

func newDeployCmd() *cobra.Command {
	cmd := ofApp(&cobra.Command{
		Use:   "deploy [DIR|ARCHIVE]",
		Short: "Deploy a folder or an archive and follow it until it is live",
		Long: `Packs DIR (default: this folder) as a zip, or takes a ready zip, tar.gz, jar or war, uploads it, and follows build and rollout.
What .gitignore and .slipwayignore name is left out. The app is made if it does not exist.

Exit code 0: live. 1: the app or the archive is at fault, the old release still serves. 3: Slipway is at fault.`,
		Example: `  slipway deploy                                  # this folder, to the app called like it
  slipway deploy ./shop --app shop
  slipway deploy shop.zip --app shop --deployment deployment.json -m "new prices"`,
		Args: cobra.MaximumNArgs(1),
		RunE: runDeploy,
	})
	f := cmd.Flags()
	f.Bool("async", false, "do not follow; print the deployment and return")
	f.StringP("message", "m", "", "a note shown in the history")
	f.String("manifest", "", "manifest.json to use instead of the one inside")
	f.String("deployment", "", "deployment.json to use instead of the one inside")
	return cmd
}

func runDeploy(cmd *cobra.Command, args []string) error {
	source := "."
	if len(args) == 1 {
		source = args[0]
	}
	s, err := openApp(cmd, source)
	if err != nil {
		return err
	}
	archive, err := s.pack(source)
	if err != nil {
		return err
	}
	defer archive.Close()
	req := client.DeployRequest{App: s.app, Open: archive.again, Size: archive.size, SHA256: archive.sha256, Create: true, Origin: string(paas.OriginCLI)}
	if req.Manifest, err = readOptional(cmd, "manifest"); err != nil {
		return err
	}
	if req.Deployment, err = readOptional(cmd, "deployment"); err != nil {
		return err
	}
	req.Message, _ = cmd.Flags().GetString("message")
	began := time.Now()
	progress, finish := s.uploadBar(archive.size)
	req.Progress = progress
	d, err := s.Deploy(cmd.Context(), req)
	finish()
	if err != nil {
		return err
	}
	s.out.say("uploaded %s in %.1f s", size(archive.size), time.Since(began).Seconds())
	async, _ := cmd.Flags().GetBool("async")
	return s.follow(cmd, d, async)
}

// upload is an archive on its way; a packed folder is a temporary file.
type upload struct {
	*os.File
	size      int64
	sha256    string
	temporary bool
}

// again reads the archive from its start; each try of the upload does.
func (u *upload) again() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(u.File, 0, u.size)), nil
}

func (u *upload) Close() error {
	err := u.File.Close()
	if u.temporary {
		_ = os.Remove(u.Name()) // the system's temporary folder; nothing depends on it
	}
	return err
}

// pack opens an archive, or makes one from a folder and says what it left out.
func (s *session) pack(source string) (*upload, error) {
	info, err := os.Stat(source)
	if err != nil {
		return nil, paas.Errorf(paas.CodeInvalid, "cannot read %s: %v", source, err)
	}
	if !info.IsDir() {
		f, err := os.Open(source)
		if err != nil {
			return nil, paas.Errorf(paas.CodeInvalid, "cannot read %s: %v", source, err)
		}
		return sum(&upload{File: f})
	}
	f, err := os.CreateTemp("", "slipway-*.zip")
	if err != nil {
		return nil, err
	}
	u := &upload{File: f, temporary: true}
	res, err := bundle.Zip(f, source)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		u.Close()
		return nil, err
	}
	s.out.say("packed %d files, %s%s", res.Files, size(res.SizeBytes), leftOut(res.LeftOut))
	return sum(u)
}

// sum fills size and digest and rewinds.
func sum(u *upload) (*upload, error) {
	h := sha256.New()
	n, err := io.Copy(h, u.File)
	if err == nil {
		_, err = u.Seek(0, io.SeekStart)
	}
	if err != nil {
		u.Close()
		return nil, paas.Errorf(paas.CodeInvalid, "cannot read %s: %v", u.Name(), err)
	}
	u.size, u.sha256 = n, hex.EncodeToString(h.Sum(nil))
	return u, nil
}

func leftOut(list []bundle.LeftOut) string {
	if len(list) == 0 {
		return ""
	}
	var names []string
	for i, l := range list {
		if i == 6 {
			names = append(names, fmt.Sprintf("and %d more", len(list)-i))
			break
		}
		names = append(names, fmt.Sprintf("%s (%s)", l.Path, l.Rule))
	}
	return "; left out: " + strings.Join(names, ", ")
}

func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	if n < 1<<30 {
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

func readOptional(cmd *cobra.Command, flag string) ([]byte, error) {
	name, _ := cmd.Flags().GetString(flag)
	if name == "" {
		return nil, nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, paas.Errorf(paas.CodeInvalid, "cannot read --%s %s: %v", flag, name, err)
	}
	return b, nil
}

// uploadBar draws progress on a terminal, for what takes a while.
func (s *session) uploadBar(total int64) (progress func(sent int64), finish func()) {
	if !s.out.terminal || s.out.quiet || s.out.json || total < 1<<20 {
		return nil, func() {}
	}
	bar := progressbar.DefaultBytes(total, "uploading")
	return func(sent int64) { _ = bar.Set64(sent) }, func() { _ = bar.Finish() }
}

// follow shows a deployment until it is live or final; its failure is the verb's.
func (s *session) follow(cmd *cobra.Command, d v1.Deployment, async bool) error {
	if async {
		return s.out.result(d, func(w io.Writer) {
			if s.out.quiet {
				fmt.Fprintln(w, d.ID)
				return
			}
			fmt.Fprintf(w, "deployment %d of %s is %s\n", d.ID, d.App, d.State)
		})
	}
	began := time.Now()
	p := &phasePrinter{out: s.out, now: time.Now}
	last, err := s.FollowDeployment(cmd.Context(), s.app, d.ID, p.event)
	if err != nil {
		if cmd.Context().Err() != nil && !s.out.quiet {
			fmt.Fprintf(s.out.stderr, "deployment %d goes on:  slipway deployments -a %s\n", d.ID, s.app)
		}
		return err
	}
	p.end()
	if s.out.json && (last.Failure != nil || last.State != "live" && last.State != "succeeded") {
		if err := s.out.result(last, nil); err != nil { // why, for programs; the error goes to stderr
			return err
		}
	}
	if last.Failure != nil {
		return deployError(s.out, last)
	}
	if last.State == "canceled" || last.State == "superseded" {
		return paas.Errorf(paas.CodeConflict, "deployment %d was %s", last.ID, last.State).WithHint("slipway deployments -a %s", s.app)
	}
	return s.out.result(last, func(w io.Writer) {
		if s.out.quiet {
			fmt.Fprintln(w, strings.Join(last.URLs, "\n"))
			return
		}
		fmt.Fprintf(w, "%s %s is live after %.1f s  %s\n", last.App, release(last.Release), time.Since(began).Seconds(), strings.Join(last.URLs, " "))
	})
}

// ourFailures are the codes of what is the platform's fault, not the app's.
var ourFailures = map[string]bool{"builder_lost": true, "not_started": true, "image_missing": true}

// deployError turns a failed deployment into the error that the user reads.
func deployError(o *output, d v1.Deployment) error {
	f := d.Failure
	o.lastOutput("last output:", f.Output)
	code := paas.CodeInvalid
	if ourFailures[f.Code] {
		code = paas.CodeUnavailable
	}
	e := paas.Errorf(code, "deployment %d of %s failed: %s", d.ID, d.App, f.Message)
	if f.Hint != "" {
		return e.WithHint("%s", f.Hint)
	}
	return e
}

// phasePrinter prints a deployment's stream: phases with times, log lines,
// what it waits for.
type phasePrinter struct {
	out     *output
	now     func() time.Time
	phase   string
	since   time.Time // of the phase
	waiting string
}

func (p *phasePrinter) event(e v1.DeploymentEvent) {
	if p.out.json || p.out.quiet {
		return
	}
	if e.Phase != p.phase && e.Phase != "" {
		p.end()
		p.phase, p.since = e.Phase, p.now()
		p.out.say("── %s", p.phase)
	}
	switch {
	case e.Log != nil:
		p.out.say("   %-12s %s", e.Log.Step, p.out.safe(e.Log.Text))
	case e.Waiting != "" && e.Waiting != p.waiting:
		p.waiting = e.Waiting
		p.out.say("   %s", p.out.safe(e.Waiting))
	}
}

// end closes the current phase with its time.
func (p *phasePrinter) end() {
	if p.phase != "" && !p.out.json && !p.out.quiet && (p.phase == "queued" || p.phase == "building" || p.phase == "rolling") {
		p.out.say("   %s took %.1f s", p.phase, p.now().Sub(p.since).Seconds())
	}
	p.phase = ""
}
