package logfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// writeLog runs one whole sink: everything that say writes is on disk at return.
func writeLog(t *testing.T, d *Dir, h Header, say func(w *Writer)) {
	t.Helper()
	path := d.Path("shop", h.Instance)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	w := NewWriter(path, h, 0)
	var wg sync.WaitGroup
	wg.Go(w.Run)
	say(w)
	w.Close()
	wg.Wait()
}

func read(t *testing.T, d *Dir, q paas.LogQuery) []paas.LogLine {
	t.Helper()
	q.App = "shop"
	var out []paas.LogLine
	if err := d.Read(t.Context(), q, func(l paas.LogLine) error { out = append(out, l); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func texts(lines []paas.LogLine) []string {
	var out []string
	for _, l := range lines {
		out = append(out, l.Text)
	}
	return out
}

func TestWriter_KeepsBytesStreamsAndLastHalfLine(t *testing.T) {
	d := NewDir(t.TempDir())
	odd := "tab\tnul\x00 \xff\xfe \r esc\x1b[31m"
	writeLog(t, d, Header{"shop-1-2-0", 2, 5}, func(w *Writer) {
		w.Write(Stdout, []byte("one\ntw"))
		w.Write(Stderr, []byte("oops\n"))
		w.Write(Stdout, []byte("o\n\n"+odd))
	})
	got := read(t, d, paas.LogQuery{})
	if want := []string{"one", "oops", "two", "", odd}; !slices.Equal(texts(got), want) {
		t.Fatalf("got %q, want %q", texts(got), want)
	}
	l := got[1]
	if l.Stream != "stderr" || l.Slot != 2 || l.Release != 5 || l.Instance != "shop-1-2-0" || time.Since(l.At) > time.Minute {
		t.Errorf("got %+v", l)
	}
}

func TestWriter_CutsLongLinesWithAMark(t *testing.T) {
	d := NewDir(t.TempDir())
	writeLog(t, d, Header{"shop-1-1-0", 1, 1}, func(w *Writer) {
		w.Write(Stdout, bytes.Repeat([]byte("x"), MaxLine+100))
		w.Write(Stdout, []byte("yy\nnext\n"))
	})
	got := read(t, d, paas.LogQuery{})
	if len(got) != 3 || len(got[0].Text) != MaxLine || got[1].Stream != "slipway" || !strings.Contains(got[1].Text, "102 bytes left out") || got[2].Text != "next" {
		t.Fatalf("got %d lines, second %q", len(got), got[1].Text)
	}
}

func TestWriter_RotatesAndReadsAcrossFiles(t *testing.T) {
	d := NewDir(t.TempDir())
	const n = 3000
	path := d.Path("shop", "shop-1-1-0")
	os.MkdirAll(filepath.Dir(path), 0o755)
	w := NewWriter(path, Header{"shop-1-1-0", 1, 1}, 0)
	w.out.max = 64 << 10 // about 1,200 lines of 55 bytes
	var wg sync.WaitGroup
	wg.Go(w.Run)
	for i := range n {
		w.Write(Stdout, fmt.Appendf(nil, "line %06d padding padding\n", i))
	}
	w.Close()
	wg.Wait()
	files, _ := filepath.Glob(path + "*")
	if len(files) != 3 {
		t.Fatalf("files: %v", files)
	}
	got := read(t, d, paas.LogQuery{})
	if len(got) != n || !slices.IsSorted(texts(got)) {
		t.Fatalf("got %d lines, want %d in order", len(got), n)
	}
	for _, tail := range []int{1, 10, 1100, 2900, 9999} {
		got := texts(read(t, d, paas.LogQuery{Tail: tail}))
		if want := min(tail, n); len(got) != want || got[len(got)-1] != fmt.Sprintf("line %06d padding padding", n-1) {
			t.Errorf("tail %d: got %d lines, last %q", tail, len(got), got[len(got)-1])
		}
	}
}

func TestWriter_DropsOverTheRateAndSaysHowMany(t *testing.T) {
	d := NewDir(t.TempDir())
	path := d.Path("shop", "shop-1-1-0")
	os.MkdirAll(filepath.Dir(path), 0o755)
	w := NewWriter(path, Header{"shop-1-1-0", 1, 1}, 1<<20)
	at := time.Now()
	w.now = func() time.Time { return at }
	line := append(bytes.Repeat([]byte("z"), 999), '\n')
	var wg sync.WaitGroup
	wg.Go(w.Run)
	for range 3000 { // 3 MB at once; 2 MiB are allowed
		w.Write(Stdout, line)
		for w.backlog() > maxPending/2 {
			time.Sleep(time.Millisecond) // poll of the writer goroutine
		}
	}
	w.Close()
	wg.Wait()
	got := read(t, d, paas.LogQuery{})
	mark := got[len(got)-1]
	kept := len(got) - 1
	if want := fmt.Sprintf("%d lines", 3000-kept); kept < 1900 || kept > 2100 || mark.Stream != "slipway" || !strings.HasPrefix(mark.Text, want) {
		t.Fatalf("kept %d, mark %q, want it to say %q", kept, mark.Text, want)
	}
}

func TestWriter_FullDisk_DropsWithMarkAndGoesOn(t *testing.T) {
	d := NewDir(t.TempDir())
	path := d.Path("shop", "shop-1-1-0")
	w := NewWriter(path, Header{"shop-1-1-0", 1, 1}, 0) // the folder is missing: every write is refused
	var wg sync.WaitGroup
	wg.Go(w.Run)
	w.Write(Stdout, []byte("lost\n"))
	waitFor(t, "the refusal", w.out.failing)
	os.MkdirAll(filepath.Dir(path), 0o755)
	w.Write(Stdout, []byte("kept\n"))
	waitFor(t, "the recovery", func() bool { return !w.out.failing() })
	w.Write(Stdout, []byte("last\n"))
	w.Close()
	wg.Wait()
	got := read(t, d, paas.LogQuery{})
	joined := strings.Join(texts(got), "|")
	if !strings.Contains(joined, "1 lines (") || !strings.Contains(joined, "kept") || !strings.HasSuffix(joined, "last") {
		t.Fatalf("got %q", joined)
	}
}

func (w *Writer) backlog() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.pending)
}

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 10 s for %s", what)
		}
	}
}

func TestRead_MergesInstancesByTimeAndFilters(t *testing.T) {
	d := NewDir(t.TempDir())
	for slot := 1; slot <= 3; slot++ {
		writeLog(t, d, Header{paas.InstanceID("shop", 4, slot, 0), slot, 4}, func(w *Writer) {
			base := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			for i := range 10 {
				at := base.Add(time.Duration(i*3+slot) * time.Second)
				w.mu.Lock()
				w.now = func() time.Time { return at }
				w.mu.Unlock()
				w.Write(Stdout, fmt.Appendf(nil, "%02d\n", i*3+slot))
			}
		})
	}
	all := texts(read(t, d, paas.LogQuery{}))
	if len(all) != 30 || !slices.IsSorted(all) {
		t.Errorf("merged: %q", all)
	}
	if got := texts(read(t, d, paas.LogQuery{Tail: 4})); !slices.Equal(got, all[26:]) {
		t.Errorf("tail 4: %q", got)
	}
	if got := read(t, d, paas.LogQuery{Tail: -1}); len(got) != 0 {
		t.Errorf("tail none: %q", texts(got))
	}
	for _, q := range []string{"web.2", paas.InstanceID("shop", 4, 2, 0)} {
		if got := read(t, d, paas.LogQuery{Instance: q}); len(got) != 10 || got[0].Slot != 2 {
			t.Errorf("%s: %d lines", q, len(got))
		}
	}
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(28 * time.Second)
	if got := texts(read(t, d, paas.LogQuery{Since: since})); !slices.Equal(got, all[27:]) {
		t.Errorf("since: %q", got)
	}
	if got := read(t, d, paas.LogQuery{Instance: "web.9"}); got != nil {
		t.Errorf("web.9: %q", texts(got))
	}
}

// One instance that goes on writing while it is read must hide neither the lines
// that the others write meanwhile nor their order among what was there before.
func TestRead_AnEndlessWriterDoesNotHideTheOthers(t *testing.T) {
	d := NewDir(t.TempDir())
	busy := Header{paas.InstanceID("shop", 4, 1, 0), 1, 4}
	calm := Header{paas.InstanceID("shop", 4, 2, 0), 2, 4}
	writeLog(t, d, calm, func(w *Writer) { w.Write(Stdout, []byte("first\n")) })
	batch := bytes.Repeat([]byte("busy\n"), recheckLines)
	writeLog(t, d, busy, func(w *Writer) { w.Write(Stdout, batch) })
	seen, errSeen := 0, errors.New("seen")
	err := d.Read(t.Context(), paas.LogQuery{App: "shop"}, func(l paas.LogLine) error {
		if l.Text == "later" {
			return errSeen
		}
		if seen++; seen > 5*recheckLines {
			return errors.New("the other instance was forgotten")
		}
		switch seen {
		case recheckLines / 2:
			writeLog(t, d, calm, func(w *Writer) { w.Write(Stdout, []byte("later\n")) })
		case recheckLines - 1, 2*recheckLines - 1:
			writeLog(t, d, busy, func(w *Writer) { w.Write(Stdout, batch) })
		}
		return nil
	})
	if !errors.Is(err, errSeen) {
		t.Errorf("read: %v after %d lines", err, seen)
	}
}

func TestRead_FollowSeesGrowthRotationAndNewInstances(t *testing.T) {
	d := NewDir(t.TempDir())
	d.poll = 5 * time.Millisecond
	path := d.Path("shop", "shop-1-1-0")
	os.MkdirAll(filepath.Dir(path), 0o755)
	w := NewWriter(path, Header{"shop-1-1-0", 1, 1}, 0)
	w.out.max = 8 << 10
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(w.Run)
	w.Write(Stdout, []byte("before\n"))
	waitFor(t, "the first line", func() bool { return len(read(t, d, paas.LogQuery{})) == 1 })

	ctx, cancel := context.WithCancel(t.Context())
	lines := make(chan string, 10_000)
	wg.Go(func() {
		err := d.Read(ctx, paas.LogQuery{App: "shop", Tail: -1, Follow: true}, func(l paas.LogLine) error {
			lines <- l.Text
			return nil
		})
		if err != nil {
			t.Errorf("follow: %v", err)
		}
	})
	defer cancel()
	defer w.Close()
	// The follower may open a moment later: the first lines wait for it.
	waitFor(t, "the follower", func() bool { w.Write(Stdout, []byte("ping\n")); return len(lines) > 0 })
	const n = 500 // 500 × 45 bytes: two or three rotations
	for i := range n {
		w.Write(Stdout, fmt.Appendf(nil, "f %04d\n", i))
		if i%100 == 0 {
			waitFor(t, "the disk", func() bool { return w.backlog() == 0 })
		}
	}
	writeLog(t, d, Header{"shop-2-1-0", 1, 2}, func(w *Writer) { w.Write(Stdout, []byte("newcomer\n")) })
	next, newcomer := 0, false
	for next < n || !newcomer {
		select {
		case l := <-lines:
			switch {
			case l == "newcomer":
				newcomer = true
			case l == "before":
				t.Fatal("tail -1 told an old line")
			case l == fmt.Sprintf("f %04d", next):
				next++
			case strings.HasPrefix(l, "f "):
				t.Fatalf("got %q, want number %d", l, next)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("stuck after %d lines, newcomer %v", next, newcomer)
		}
	}
}

func TestRead_EmitErrorEndsIt(t *testing.T) {
	d := NewDir(t.TempDir())
	writeLog(t, d, Header{"shop-1-1-0", 1, 1}, func(w *Writer) { w.Write(Stdout, []byte("a\nb\n")) })
	gone := errors.New("client gone")
	if err := d.Read(t.Context(), paas.LogQuery{App: "shop"}, func(paas.LogLine) error { return gone }); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	if err := d.Read(t.Context(), paas.LogQuery{App: "../shop"}, nil); paas.CodeOf(err) != paas.CodeInvalid {
		t.Errorf("traversal: got %v", err)
	}
}

func TestPrune_RemovesTheOldestFirstAndTheSinkGoesOn(t *testing.T) {
	d := NewDir(t.TempDir())
	for i := range 4 {
		h := Header{paas.InstanceID("shop", int64(i), 1, 0), 1, i}
		writeLog(t, d, h, func(w *Writer) { w.Write(Stdout, bytes.Repeat([]byte("0123456789\n"), 1000)) })
		old := time.Now().Add(time.Duration(i-10) * time.Hour)
		os.Chtimes(d.Path("shop", h.Instance), old, old)
	}
	removed, err := d.Prune(t.Context(), 100_000)
	if err != nil || removed == 0 {
		t.Fatalf("removed %d, %v", removed, err)
	}
	left, _ := filepath.Glob(d.Path("shop", "*"))
	if len(left) != 2 || !strings.HasSuffix(left[0], "shop-2-1-0.log") {
		t.Errorf("left: %v", left)
	}

	writeLog(t, d, Header{"shop-9-1-0", 1, 9}, func(w *Writer) {
		w.Write(Stdout, []byte("one\n"))
		waitFor(t, "the file", func() bool { return len(read(t, d, paas.LogQuery{Instance: "shop-9-1-0"})) == 1 })
		if _, err := d.Prune(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		w.Write(Stdout, []byte("two\n"))
	})
	if got := texts(read(t, d, paas.LogQuery{})); !slices.Equal(got, []string{"two"}) {
		t.Errorf("after prune: %q", got)
	}
	if err := d.Remove(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, d, paas.LogQuery{}); got != nil {
		t.Errorf("after remove: %q", texts(got))
	}
}
