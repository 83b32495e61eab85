package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"

	v1 "github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

// hostile is what an app may print to steer a terminal, and how it is shown.
var hostile = []struct{ name, in, want string }{
	{"plain", "hello", "hello"},
	{"empty", "", ""},
	{"tab", "a\tb", "a\tb"},
	{"umlauts", "Grüße", "Grüße"},
	{"japanese", "こんにちは", "こんにちは"},
	{"arabic", "مرحبا", "مرحبا"},
	{"hebrew", "שלום", "שלום"},
	{"emoji", "🚀", "🚀"},
	{"combining", "e\u0301", "e\u0301"},
	{"no-break space", "a\u00a0b", "a\u00a0b"},
	{"backslash stays", `\x1b[31m`, `\x1b[31m`},
	{"red", "\x1b[31mred\x1b[0m", "␛[31mred␛[0m"},
	{"clear screen", "\x1b[2J", "␛[2J"},
	{"home", "\x1b[H", "␛[H"},
	{"cursor up", "\x1b[5A", "␛[5A"},
	{"erase line", "\x1b[2K", "␛[2K"},
	{"hide cursor", "\x1b[?25l", "␛[?25l"},
	{"alternate screen", "\x1b[?1049h", "␛[?1049h"},
	{"bracketed paste", "\x1b[?2004h", "␛[?2004h"},
	{"mouse", "\x1b[?1000h", "␛[?1000h"},
	{"device attributes", "\x1b[c", "␛[c"},
	{"cursor report", "\x1b[6n", "␛[6n"},
	{"title report", "\x1b[21t", "␛[21t"},
	{"resize window", "\x1b[8;1;1t", "␛[8;1;1t"},
	{"conceal", "\x1b[8msecret", "␛[8msecret"},
	{"scroll region", "\x1b[1;1r", "␛[1;1r"},
	{"reset", "\x1bc", "␛c"},
	{"save cursor", "\x1b7", "␛7"},
	{"index", "\x1bD", "␛D"},
	{"reverse index", "\x1bM", "␛M"},
	{"charset", "\x1b(0", "␛(0"},
	{"keypad", "\x1b=", "␛="},
	{"screen title", "\x1bktitle\x1b\\", "␛ktitle␛\\"},
	{"osc title", "\x1b]0;title\x07", "␛]0;title␇"},
	{"osc title, st", "\x1b]2;title\x1b\\", "␛]2;title␛\\"},
	{"osc hyperlink", "\x1b]8;;http://evil/\x1b\\x\x1b]8;;\x1b\\", "␛]8;;http://evil/␛\\x␛]8;;␛\\"},
	{"osc clipboard", "\x1b]52;c;cm0=\x07", "␛]52;c;cm0=␇"},
	{"osc palette", "\x1b]4;1;?\x07", "␛]4;1;?␇"},
	{"osc colour query", "\x1b]10;?\x07", "␛]10;?␇"},
	{"osc file download", "\x1b]1337;File=:AA==\x07", "␛]1337;File=:AA==␇"},
	{"osc notification", "\x1b]9;hi\x07", "␛]9;hi␇"},
	{"osc unfinished", "\x1b]0;", "␛]0;"},
	{"dcs", "\x1bP$q\x1b\\", "␛P$q␛\\"},
	{"dcs sixel", "\x1bPq#0\x1b\\", "␛Pq#0␛\\"},
	{"apc", "\x1b_Gf=100\x1b\\", "␛_Gf=100␛\\"},
	{"pm", "\x1b^x\x1b\\", "␛^x␛\\"},
	{"sos", "\x1bXx\x1b\\", "␛Xx␛\\"},
	{"escape at the end", "x\x1b", "x␛"},
	{"two escapes", "\x1b\x1b[A", "␛␛[A"},
	{"c1 csi", "\u009b31m", "·31m"},
	{"c1 osc", "\u009d0;t\u009c", "·0;t·"},
	{"c1 dcs", "\u0090q\u009c", "·q·"},
	{"c1 next line", "a\u0085b", "a·b"},
	{"c1 apc", "\u009fG\u009c", "·G·"},
	{"raw c1 byte", "\x9b31m", "\ufffd31m"},
	{"cut rune", "\xe2\x82", "\ufffd\ufffd"},
	{"overlong escape", "\xc0\x9b[31m", "\ufffd\ufffd[31m"},
	{"surrogate", "\xed\xa0\x80", "\ufffd\ufffd\ufffd"},
	{"bom", "\ufeffx", "·x"},
	{"nul", "a\x00b", "a␀b"},
	{"bell", "\a", "␇"},
	{"backspace", "abc\b\b\bxyz", "abc␈␈␈xyz"},
	{"carriage return", "real\rfake", "real␍fake"},
	{"line feed", "one\ntwo", "one␊two"},
	{"crlf", "one\r\ntwo", "one␍␊two"},
	{"vertical tab", "\v", "␋"},
	{"form feed", "\f", "␌"},
	{"shift out", "\x0e", "␎"},
	{"shift in", "\x0f", "␏"},
	{"enquiry", "\x05", "␅"},
	{"xon", "\x11", "␑"},
	{"xoff", "\x13", "␓"},
	{"cancel", "\x18", "␘"},
	{"substitute", "\x1a", "␚"},
	{"unit separator", "\x1f", "␟"},
	{"delete", "a\x7fb", "a·b"},
	{"bidi override", "\u202egnp.exe", "·gnp.exe"},
	{"bidi embedding", "\u202aa\u202bb\u202c", "·a·b·"},
	{"bidi isolates", "\u2066a\u2067b\u2068c\u2069", "·a·b·c·"},
	{"bidi marks", "\u200ea\u200f\u061c", "·a··"},
	{"zero width", "a\u200bb\u200cc\u200dd", "a·b·c·d"},
	{"word joiner", "a\u2060b", "a·b"},
	{"soft hyphen", "a\u00adb", "a·b"},
	{"line separator", "a\u2028b", "a·b"},
	{"paragraph separator", "a\u2029b", "a·b"},
	{"language tag", "\U000e0001\U000e0061", "··"},
	{"interlinear", "\ufff9a\ufffab\ufffb", "·a·b·"},
	{"old bidi controls", "\u206a\u206f", "··"},
}

func TestSafe_HostileText_SteersNoTerminal(t *testing.T) {
	terminal, pipe := &output{terminal: true}, &output{}
	for _, c := range hostile {
		got := terminal.safe(c.in)
		if got != c.want {
			t.Errorf("%s: %q is shown as %q, want %q", c.name, c.in, got, c.want)
		}
		for _, r := range got {
			if r != '\t' && (unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)) {
				t.Errorf("%s: %U is left", c.name, r)
			}
		}
		if again := terminal.safe(got); again != got {
			t.Errorf("%s: shown twice it is %q, not %q", c.name, again, got)
		}
		if got := pipe.safe(c.in); got != c.in {
			t.Errorf("%s: a pipe gets %q", c.name, got)
		}
	}
	if len(hostile) < 80 {
		t.Errorf("the table has %d rows", len(hostile))
	}
}

func TestTable_HostileCells_StayInTheirPlace(t *testing.T) {
	var b bytes.Buffer
	o := &output{stdout: &b, terminal: true}
	if err := o.table(nil, []string{"A", "B"}, [][]string{{"one\ttwo\nthree\r\nfour", "\x1b[2Jx"}, {"y", "z"}}); err != nil {
		t.Fatal(err)
	}
	if want := "A                   B\none two three four  ␛[2Jx\ny                   z\n"; b.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", b.String(), want)
	}
}

func TestReport_TextAndJSON(t *testing.T) {
	hinted := paas.Errorf(paas.CodeNotFound, "there is no app %q", "x").WithHint("slipway apps")
	for _, c := range []struct {
		name       string
		err        error
		code       int
		text, json string
	}{
		{"with hint", hinted, 1, "Error: there is no app \"x\"\n  Next: slipway apps\n", `{"error":{"code":"not_found","hint":"slipway apps","message":"there is no app \"x\""}}`},
		{"without", paas.Errorf(paas.CodeConflict, "busy"), 1, "Error: busy\n", `{"error":{"code":"conflict","message":"busy"}}`},
		{"with cause", paas.Errorf(paas.CodeUnavailable, "cannot open").WithCause(errors.New("disk")), 3, "Error: cannot open: disk\n", `{"error":{"code":"unavailable","message":"cannot open: disk"}}`},
		{"any", errors.New("odd"), 3, "Error: odd\n", `{"error":{"code":"internal","message":"odd"}}`},
		{"usage", usageError{errors.New("what?")}, 2, "Error: what?\n  Next: slipway --help, or slipway VERB --help\n", `{"error":{"code":"usage","hint":"slipway --help, or slipway VERB --help","message":"what?"}}`},
		{"usage with hint", usageError{hinted}, 2, "Error: there is no app \"x\"\n  Next: slipway apps\n", `{"error":{"code":"usage","hint":"slipway apps","message":"there is no app \"x\""}}`},
		{"remote command", exitError{7}, 7, "", ""},
		{"interrupted", errInterrupted, 130, "Error: interrupted\n", `{"error":{"code":"interrupted","message":"interrupted"}}`},
	} {
		for _, asJSON := range []bool{false, true} {
			var out, errOut bytes.Buffer
			code := (&output{stdout: &out, stderr: &errOut, json: asJSON}).report(c.err)
			want := c.text
			if asJSON {
				want = c.json
			}
			if code != c.code || strings.TrimSuffix(errOut.String(), "\n") != strings.TrimSuffix(want, "\n") || out.Len() > 0 {
				t.Errorf("%s, JSON %t: exit code %d, printed %q, want %d and %q", c.name, asJSON, code, errOut.String(), c.code, want)
			}
			if asJSON && errOut.Len() > 0 && !json.Valid(errOut.Bytes()) {
				t.Errorf("%s: %q is no JSON", c.name, errOut.String())
			}
		}
	}
	var b bytes.Buffer
	(&output{stderr: &b, errTerminal: true}).report(paas.Errorf(paas.CodeInvalid, "step `\x1b[2J` failed"))
	if b.String() != "Error: step `␛[2J` failed\n" {
		t.Errorf("on a terminal: %q", b.String())
	}
}

func TestAgo_LargestUnit(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s": 0, "59s": 59 * time.Second, "1m": 60 * time.Second, "59m": 59*time.Minute + 50*time.Second,
		"1h": time.Hour, "47h": 47*time.Hour + 59*time.Minute, "2d": 48 * time.Hour, "400d": 400 * 24 * time.Hour,
	} {
		if got := ago(time.Now().Add(-d)); got != want {
			t.Errorf("%s ago is %q, want %q", d, got, want)
		}
	}
	if got := ago(time.Time{}); got != "-" {
		t.Errorf("never is %q", got)
	}
	if got := ago(time.Now().Add(time.Hour)); got != "0s" {
		t.Errorf("a clock that is ahead by 1 h shows %q", got)
	}
}

func TestSize_Digest_Release_AreShort(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1 << 20: "1.0 MiB", 3 << 30: "3.0 GiB", -1: "-1 B"} {
		if got := size(n); got != want {
			t.Errorf("%d bytes are %q, want %q", n, got, want)
		}
	}
	for in, want := range map[string]string{"": "", "sha256:": "", "sha256:0123456789abcdef": "0123456789ab", "short": "short"} {
		if got := shortDigest(in); got != want {
			t.Errorf("digest %q is %q, want %q", in, got, want)
		}
	}
	if release(0) != "-" || release(7) != "v7" || orDash("") != "-" || orDash("x") != "x" {
		t.Errorf("%q %q %q %q", release(0), release(7), orDash(""), orDash("x"))
	}
}

func TestPhasePrinter_ScriptedStream_IsGolden(t *testing.T) {
	clock := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	log := func(step, text string) v1.DeploymentEvent {
		return v1.DeploymentEvent{Type: "log", Phase: "building", Log: &v1.BuildLine{Step: step, Text: text}}
	}
	events := []v1.DeploymentEvent{
		{Type: "state", Phase: "queued"},
		{Type: "waiting", Phase: "queued", Waiting: "2 builds are before this one"},
		{Type: "waiting", Phase: "queued", Waiting: "2 builds are before this one"}, // told again
		{Type: "waiting", Phase: "queued", Waiting: "1 build is before this one"},
		{Type: "state", Phase: "building"},
		log("slipway", "node 24.1.0: newest with long-term support"),
		log("dependencies", "added 3 packages"),
		log("build", "\x1b]0;owned\x07done\r"),
		{Type: "state", Phase: "rolling"},
		{Type: "waiting", Phase: "rolling", Waiting: "web.1 is starting: connection refused, 2 of 30 s"},
		{Type: "waiting", Waiting: "a phase that is not said does not change"},
		{Type: "state", Phase: "live"},
		{Type: "done", Phase: "live"},
	}
	for _, mode := range []struct {
		name string
		out  output
	}{
		{"terminal", output{terminal: true}}, {"quiet", output{quiet: true}}, {"json", output{json: true}},
	} {
		var b bytes.Buffer
		mode.out.stdout = &b
		p := &phasePrinter{out: &mode.out, now: func() time.Time { clock = clock.Add(500 * time.Millisecond); return clock }}
		for _, e := range events {
			p.event(e)
		}
		p.end()
		if mode.name != "terminal" {
			if b.Len() > 0 {
				t.Errorf("%s printed %q", mode.name, b.String())
			}
			continue
		}
		golden(t, "phases.txt", b.String())
	}
}
