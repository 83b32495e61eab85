package llb

import (
	"context"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"github.com/slipway-paas/slipway/buildpacks/plan"
)

// tailLines is how much output of a failed step a Failure carries.
const tailLines = 50

// progress reads the status stream of one solve.
type progress struct {
	say    func(step, text string)
	stepOf map[digest.Digest]string
	seen   map[digest.Digest]client.Vertex
	part   map[digest.Digest]string // an unfinished line
	told   map[digest.Digest]bool
	tail   map[digest.Digest][]string
	failed digest.Digest
}

func newProgress(say func(step, text string)) *progress {
	return &progress{say: say, stepOf: map[digest.Digest]string{}, seen: map[digest.Digest]client.Vertex{},
		part: map[digest.Digest]string{}, told: map[digest.Digest]bool{}, tail: map[digest.Digest][]string{}}
}

func (p *progress) add(s *client.SolveStatus) {
	for _, v := range s.Vertexes {
		p.vertex(v)
	}
	for _, l := range s.Logs {
		p.output(l.Vertex, string(l.Data))
	}
}

func (p *progress) vertex(v *client.Vertex) {
	step, what := stepName(v.Name)
	p.stepOf[v.Digest] = step
	p.seen[v.Digest] = *v
	if v.Error != "" && p.failed == "" {
		p.failed = v.Digest
	}
	switch {
	case !strings.HasPrefix(what, commandMark) || p.told[v.Digest]:
	case v.Cached:
		p.told[v.Digest] = true
		p.say(step, what+" (cached)")
	case v.Started != nil:
		p.told[v.Digest] = true
		p.say(step, what)
	}
	if v.Completed != nil {
		p.flush(v.Digest)
	}
}

// stepName splits "[step] what"; vertices of BuildKit's own belong to the export.
func stepName(name string) (step, what string) {
	if rest, ok := strings.CutPrefix(name, "["); ok {
		if step, what, ok := strings.Cut(rest, "] "); ok {
			return step, what
		}
	}
	return StepExport, name
}

// maxLine bounds a line that never ends.
const maxLine = 16 << 10

func (p *progress) output(d digest.Digest, data string) {
	data = p.part[d] + data
	for {
		line, rest, ok := strings.Cut(data, "\n")
		if !ok && len(data) < maxLine {
			break
		}
		if !ok {
			line, rest = data[:maxLine], data[maxLine:]
		}
		p.line(d, line)
		data = rest
	}
	p.part[d] = data
}

func (p *progress) line(d digest.Digest, line string) {
	line = strings.ToValidUTF8(strings.TrimRight(line, "\r"), "�")
	if i := strings.LastIndexByte(line, '\r'); i >= 0 {
		line = line[i+1:] // a progress bar: its last state
	}
	t := append(p.tail[d], line)
	p.tail[d] = t[max(0, len(t)-tailLines):]
	p.say(p.stepOf[d], line)
}

func (p *progress) flush(d digest.Digest) {
	if rest := p.part[d]; rest != "" {
		p.part[d] = ""
		p.line(d, rest)
	}
}

// explain turns the solver's error into one that says whose it is.
func (p *progress) explain(ctx context.Context, err error, lim Limits) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	for d := range p.part {
		p.flush(d)
	}
	v := p.seen[p.failed]
	_, what := stepName(v.Name)
	return explain(err, p.stepOf[p.failed], strings.TrimPrefix(what, commandMark), p.tail[p.failed], lim)
}

// steps sums up: a step is a hit when no command of it ran.
func (p *progress) steps(pl *plan.Plan) []Step {
	names := []string{StepBase, StepRuntime}
	if pl.Dependencies != nil || pl.App.Vendored != "" {
		names = append(names, StepDependencies)
	}
	if pl.Build != nil {
		names = append(names, StepBuild)
	}
	names = append(names, StepApp, StepExport)
	out := make([]Step, len(names))
	for i, name := range names {
		out[i] = p.step(name)
	}
	return out
}

func (p *progress) step(name string) Step {
	s := Step{Name: name, Hit: true}
	var begin, end time.Time
	for d, v := range p.seen {
		_, what := stepName(v.Name)
		if p.stepOf[d] != name || v.Started == nil || v.Completed == nil {
			continue
		}
		if strings.HasPrefix(what, commandMark) && !v.Cached {
			s.Hit = false
		}
		if begin.IsZero() || v.Started.Before(begin) {
			begin = *v.Started
		}
		if v.Completed.After(end) {
			end = *v.Completed
		}
	}
	if !begin.IsZero() {
		s.Duration = end.Sub(begin)
	}
	return s
}
