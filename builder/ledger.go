package builder

import (
	"fmt"
	"io/fs"
	"sort"
	"strings"
	"time"

	"github.com/slipway-paas/slipway/builder/archive"
	"github.com/slipway-paas/slipway/builder/llb"
	"github.com/slipway-paas/slipway/buildpacks/plan"
	"github.com/slipway-paas/slipway/internal/paas"
)

// maxInputs is how many files an entry lists one by one; more are one sum.
const maxInputs = 200

// keys are the steps of a build with the keys of their inputs.
type keys struct {
	steps  []paas.LedgerEntry
	export paas.LedgerEntry
}

func (k *keys) ledger() []paas.LedgerEntry {
	return append(append([]paas.LedgerEntry{}, k.steps...), k.export)
}

func (k *keys) add(step string, inputs map[string]string) string {
	e := entry(step, inputs)
	k.steps = append(k.steps, e)
	return e.Key
}

func entry(step string, inputs map[string]string) paas.LedgerEntry {
	return paas.LedgerEntry{Step: step, Key: plan.KeyOf(step, inputs), Inputs: inputs}
}

// makeKeys computes what each step is made from.
func (j *job) makeKeys() *keys {
	k, p := &keys{}, j.plan
	tools := strings.Join(j.images.Kept, " ")
	all := map[string]string{
		llb.StepBase:    k.add(llb.StepBase, map[string]string{"base": j.images.Base}),
		llb.StepRuntime: k.add(llb.StepRuntime, map[string]string{p.Runtime.Name: p.Runtime.Version, "tools": tools}),
	}
	workshop := map[string]string{
		"base": j.images.Base, "toolchain": j.images.Toolchain, p.Runtime.Name: p.Runtime.Version, "tools": strings.Join(j.images.Tools, " "),
	}
	if d := p.Dependencies; d != nil {
		in := j.files(llb.LockMatch(p))
		for name, v := range workshop {
			in[name] = v
		}
		in["command"], in["build command"], in["env"] = d.Command, d.BuildCommand, strings.Join(d.Env, " ")
		all[llb.StepDependencies] = k.add(llb.StepDependencies, in)
	} else if p.App.Vendored != "" {
		all[llb.StepDependencies] = k.add(llb.StepDependencies, j.files(llb.VendoredMatch(p)))
	}
	app := j.files(llb.AppMatch(p))
	if p.Build != nil {
		all[llb.StepBuild] = k.add(llb.StepBuild, map[string]string{
			"source": plan.KeyOf(app), "dependencies": all[llb.StepDependencies],
			"command": p.Build.Command, "env": strings.Join(p.Build.Env, " "),
		})
	}
	all[llb.StepApp] = k.add(llb.StepApp, app)
	all["plan"] = p.Key()
	k.export = entry(llb.StepExport, all)
	return k
}

// files maps paths to content; many files are one entry.
func (j *job) files(match llb.Match) map[string]string {
	out := map[string]string{}
	for _, e := range j.arch.Entries() {
		if !match(e.Path) || e.Mode.IsDir() {
			continue
		}
		if len(out) == maxInputs {
			return map[string]string{"files": j.arch.TreeDigest(match)}
		}
		out[e.Path] = contentOf(e)
	}
	return out
}

func contentOf(e archive.Entry) string {
	if e.Mode&fs.ModeSymlink != 0 {
		return "link to " + e.LinkTarget
	}
	return fmt.Sprintf("%08x %d %o", e.CRC32, e.Size, e.Mode.Perm())
}

func ledgerKey(ledger []paas.LedgerEntry, step string) string {
	if e := ledgerEntry(ledger, step); e != nil {
		return e.Key
	}
	return ""
}

func ledgerEntry(ledger []paas.LedgerEntry, step string) *paas.LedgerEntry {
	for i := range ledger {
		if ledger[i].Step == step {
			return &ledger[i]
		}
	}
	return nil
}

// compare fills in hit or miss: a step with a command is a hit if the command did
// not run; one that only copies if its content is that of the last build.
func (j *job) compare(ledger []paas.LedgerEntry, steps []llb.Step) {
	var before []paas.LedgerEntry
	if j.last != nil && j.last.Result != nil {
		before = j.last.Result.Ledger
	}
	ran := map[string]llb.Step{}
	for _, s := range steps {
		ran[s.Name] = s
	}
	for i := range ledger {
		l := &ledger[i]
		old := ledgerEntry(before, l.Step)
		same := old != nil && old.Key == l.Key
		commands := l.Step == llb.StepBuild || l.Step == llb.StepDependencies && j.plan.Dependencies != nil
		l.Hit = same
		if commands {
			l.Hit = ran[l.Step].Hit
		}
		l.Duration = ran[l.Step].Duration
		switch {
		case same && !l.Hit:
			l.Changed = []string{"the cached result was gone"}
		case !same:
			l.Changed = changes(old, l)
		}
	}
}

// maxChanges bounds the list of changed inputs.
const maxChanges = 20

// changes names the inputs that differ.
func changes(old, now *paas.LedgerEntry) []string {
	if old == nil {
		return []string{"first build"}
	}
	names := map[string]bool{}
	for n := range old.Inputs {
		names[n] = true
	}
	for n := range now.Inputs {
		names[n] = true
	}
	var out []string
	for n := range names {
		a, hadA := old.Inputs[n]
		b, hasB := now.Inputs[n]
		switch {
		case a == b && hadA == hasB:
		case !hadA:
			out = append(out, n+" (new)")
		case !hasB:
			out = append(out, n+" (removed)")
		case len(a) < 16 && len(b) < 16 && !strings.Contains(a+b, " "): // a version
			out = append(out, fmt.Sprintf("%s %s → %s", n, a, b))
		default:
			out = append(out, n)
		}
	}
	sort.Strings(out)
	if len(out) > maxChanges {
		out = append(out[:maxChanges], fmt.Sprintf("… and %d more", len(out)-maxChanges))
	}
	return out
}

func describe(l paas.LedgerEntry) string {
	word := "made"
	if l.Hit {
		word = "from the cache"
	}
	text := fmt.Sprintf("%s: %s, %s", l.Step, word, l.Duration.Round(10*time.Millisecond))
	if len(l.Changed) > 0 {
		text += " — changed: " + strings.Join(l.Changed, ", ")
	}
	return text
}
