package reconcile

import (
	"errors"
	"testing"

	"github.com/slipway-paas/slipway/internal/paas"
)

func TestExplain(t *testing.T) {
	exited := func(code int, oom bool) Observation {
		o := obs("2/1 exited=0.4")
		o.ExitCode, o.OOMKilled, o.PeakMemory = code, oom, 511<<20
		return o
	}
	probed := func(h Health) Observation { o := obs("2/1"); o.Health = h; return o }
	crashed := obs("2/1 exited=10.3")
	crashedOOM := crashed
	crashedOOM.OOMKilled, crashedOOM.PeakMemory = true, 511<<20
	tests := []struct {
		name    string
		cause   Cause
		strict  bool
		ports   []string
		code    string
		message string
	}{
		{"exited", Cause{Kind: causeExited, Instance: exited(1, false)}, false, nil, "exited", "exited with code 1 after 0.4 s"},
		{"killed", Cause{Kind: causeExited, Instance: exited(137, false)}, false, nil, "exited", "exited with code 137 (SIGKILL) after 0.4 s"},
		{"out of memory", Cause{Kind: causeExited, Instance: exited(137, true)}, false, nil, "out_of_memory", "killed: memory limit 512 MiB, peak 511 MiB"},
		{"never listened", Cause{Kind: causeNotUp, Instance: probed(Health{Bad: "refused"})}, false, []string{}, "never_listened", "did not listen on port 8080 within 30 s; nothing listens"},
		{"ports unknown", Cause{Kind: causeNotUp, Instance: probed(Health{})}, false, nil, "never_listened", "did not listen on port 8080 within 30 s"},
		{"wrong port", Cause{Kind: causeNotUp, Instance: probed(Health{})}, false, []string{"127.0.0.1:3000"}, "never_listened", "listened on 127.0.0.1:3000, expected 0.0.0.0:8080 (PORT)"},
		{"loopback only", Cause{Kind: causeNotUp, Instance: probed(Health{})}, false, []string{"127.0.0.1:8080"}, "never_listened", "listened on 127.0.0.1:8080, expected 0.0.0.0:8080 (PORT)"},
		{"right port, not reached", Cause{Kind: causeNotUp, Instance: probed(Health{Answer: "port not open on 10.0.2.1:8080: no answer in time"})}, false, []string{"0.0.0.0:8080"},
			"never_listened", "could not be reached within 30 s though it listened on 0.0.0.0:8080: port not open on 10.0.2.1:8080: no answer in time"},
		{"answers 500", Cause{Kind: causeNotUp, Instance: probed(Health{Connected: true, Bad: "GET / answered 500", BadCount: 12})}, false, nil, "unhealthy", "GET / answered 500, 12 times in 30 s; expected below 500"},
		{"strict answers 404", Cause{Kind: causeNotUp, Instance: probed(Health{Connected: true, Bad: "GET /up answered 404", BadCount: 3})}, true, nil, "unhealthy", "GET /up answered 404, 3 times in 30 s; expected 200"},
		{"crashed in its watch", Cause{Kind: causeCrashed, Instance: crashed}, false, nil, "crashed", "crashed 10.3 s after start with exit code 1; release 3 is back"},
		{"out of memory in its watch", Cause{Kind: causeCrashed, Instance: crashedOOM}, false, nil, "out_of_memory", "killed: memory limit 512 MiB, peak 511 MiB, 10.3 s after start; release 3 is back"},
		{"turned sick", Cause{Kind: causeTurnedSick, Instance: probed(Health{Bad: "GET / answered 500", Failures: 3})}, false, nil, "unhealthy", "turned unhealthy 12 s after start: GET / answered 500, 3 times in a row; release 3 is back"},
		{"no image", Cause{Kind: causeNoImage}, false, nil, "image_missing", "the release's image is not in the image store any more"},
		{"not started", Cause{Kind: causeNoStart, Err: errors.New("runc: bad"), Tries: 7}, false, nil, "not_started", "could not be started, 7 tries: runc: bad"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &paas.Release{Number: 4, Health: paas.HealthCheck{Strict: tt.strict}}
			f := explain(tt.cause, r, Evidence{Ports: tt.ports, MemoryBytes: 512 << 20, Previous: 3, Now: at(12)})
			if f.Code != tt.code || f.Message != tt.message {
				t.Errorf("got %s: %s\nwant %s: %s", f.Code, f.Message, tt.code, tt.message)
			}
			if f.Hint == "" {
				t.Error("no hint")
			}
		})
	}
}
