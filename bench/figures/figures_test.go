package figures_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/bench/figures"
)

func TestReport_OneLinePerFigureWithItsVerdict(t *testing.T) {
	var out strings.Builder
	r := figures.Report{Bench: "x"}
	r.Add("fast", 1.25, "s", 1.5, "against %s", "bare")
	r.Add("slow", 2, "ratio", 1.3, "")
	r.Add("free", 7, "MB", 0, "")
	dir := t.TempDir()
	if err := r.Finish(&out, dir); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"figure fast 1.250 s mark 1.5 ok\n", "figure slow 2.000 ratio mark 1.3 short\n", "figure free 7.000 MB mark - ok\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no line %q in\n%s", want, out.String())
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "x.json")); err != nil || !strings.Contains(string(b), `"slow"`) {
		t.Errorf("x.json: %s %v", b, err)
	}
}

func TestMedian_IsTheMiddle(t *testing.T) {
	if got := figures.Median([]time.Duration{3 * time.Second, time.Second, 2 * time.Second}); got != 2 {
		t.Errorf("median %g, want 2", got)
	}
}
