package e2e

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// apiError is the body of every refusal.
type apiError struct{ Code, Message, Hint, RequestID string }

func (p *platform) token(t testing.TB) string {
	t.Helper()
	return strings.TrimSpace(p.must(t, "login", "--show-token"))
}

// upload posts an archive as curl would and returns the status and the error.
func (p *platform) upload(t testing.TB, app string, body io.Reader, header map[string]string) (int, apiError) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, p.API+"/v1/apps/"+app+"/deployments?create=true", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/zip")
	req.Header.Set("Authorization", "Bearer "+p.token(t))
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var e apiError
	_ = json.NewDecoder(resp.Body).Decode(&e)
	if e.Code == "internal" {
		t.Errorf("an internal error:\n%s", p.logOf(e.RequestID))
	}
	return resp.StatusCode, e
}

// logOf returns the server's log lines of one request.
func (p *platform) logOf(requestID string) string {
	var lines []string
	for line := range strings.Lines(string(p.ServerLog())) {
		if strings.Contains(line, requestID) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

func rawZip(t testing.TB, entries ...*zip.FileHeader) []byte {
	t.Helper()
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	for _, h := range entries {
		w, err := zw.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, "../../../etc/passwd"); err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestBadArchive_IsRefusedAtTheDoorAndLeavesNothing(t *testing.T) {
	good := answering("g").zip(t)
	link := &zip.FileHeader{Name: "escape"}
	link.SetMode(os.ModeSymlink | 0o777)
	disagree := bytes.Replace(bytes.Clone(good), []byte("server.js"), []byte("server.jx"), 1)
	encrypted := bytes.Clone(good)
	encrypted[6] |= 1 // the flag of the first local header …
	if at := bytes.Index(encrypted, []byte("PK\x01\x02")); at > 0 {
		encrypted[at+8] |= 1 // … and of its directory entry
	}
	before := objects(t, filepath.Join(shared.Data, "s3"))
	for _, c := range []struct {
		name   string
		body   []byte
		header map[string]string
		status int
		want   string // part of message or hint
	}{
		{"not an archive", []byte("<html>hello</html>"), nil, 400, "zip"},
		{"empty body", nil, nil, 400, "empty"},
		{"empty archive", rawZip(t), nil, 400, "no"},
		{"truncated", good[:len(good)/2], nil, 400, ""},
		{"wrong digest", good, map[string]string{"X-Content-SHA256": strings.Repeat("0", 64)}, 400, "digest"},
		{"traversal name", rawZip(t, &zip.FileHeader{Name: "../evil"}), nil, 400, "../evil"},
		{"absolute name", rawZip(t, &zip.FileHeader{Name: "/etc/evil"}), nil, 400, "/etc/evil"},
		{"escaping link", rawZip(t, link), nil, 400, "escape"},
		{"names twice", rawZip(t, &zip.FileHeader{Name: "a"}, &zip.FileHeader{Name: "a"}), nil, 400, "a"},
		{"header and directory disagree", disagree, nil, 400, ""},
		{"encrypted", encrypted, nil, 400, "encrypt"},
		{"unknown token", good, map[string]string{"Authorization": "Bearer slp_wrong"}, 401, "login"},
		{"no token", good, map[string]string{"Authorization": ""}, 401, "login"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, e := shared.upload(t, "badinput", bytes.NewReader(c.body), c.header)
			if status != c.status {
				t.Errorf("status %d, want %d (%+v)", status, c.status, e)
			}
			if e.Code == "" || e.Message == "" || e.RequestID == "" {
				t.Errorf("the refusal lacks code, message or requestId: %+v", e)
			}
			if !strings.Contains(e.Message+" "+e.Hint, c.want) {
				t.Errorf("the refusal does not say %q: %+v", c.want, e)
			}
		})
	}
	if r := shared.cli(t, "info", "-a", "badinput"); r.code == 0 {
		t.Errorf("a refused upload left an app behind:\n%s", r.out)
	}
	if now := objects(t, filepath.Join(shared.Data, "s3")); len(now) > len(before) {
		t.Errorf("refused uploads left objects: %q, before %q", now, before)
	}
}

func TestUpload_SameIdempotencyKey_OneDeployment(t *testing.T) {
	app := shared.destroyed(t, "once")
	zip := answering("o").zip(t)
	sum := sha256.Sum256(zip)
	header := map[string]string{"Idempotency-Key": "key-1", "X-Content-SHA256": hex.EncodeToString(sum[:])}
	for range 3 {
		if status, e := shared.upload(t, app, bytes.NewReader(zip), header); status != http.StatusAccepted {
			t.Fatalf("status %d %+v", status, e)
		}
	}
	var d struct{ Deployments []deployment }
	shared.mustJSON(t, &d, "deployments", "-a", app)
	if len(d.Deployments) != 1 {
		t.Errorf("%d deployments for one key", len(d.Deployments))
	}
	if status, e := shared.upload(t, app, bytes.NewReader(answering("other").zip(t)), map[string]string{"Idempotency-Key": "key-1"}); status != http.StatusConflict {
		t.Errorf("the same key with another archive: status %d %+v, want 409", status, e)
	}
}

// These are found while planning: the deployment fails and says where to look.
func TestBadSource_FailsTheBuildWithTheNextStep(t *testing.T) {
	app := shared.destroyed(t, "clumsy")
	for _, c := range []struct {
		name string
		app  tree
		want []string
	}{
		{"manifest.json is broken", tree{"manifest.json": "{\n  \"command\": node\n}", "server.js": "1"}, []string{"manifest.json", "line 2", "column"}},
		{"unsupported version", tree{"manifest.json": `{"runtime": {"majorVersion": "99"}, "command": "node server.js"}`, "server.js": "1"}, []string{"99", "22", "24"}},
		{"no start command", tree{"package.json": `{"name": "x"}`, "lib/code.js": "1"}, []string{"start", "manifest.json"}},
		{"unknown language", tree{"main.pas": "begin end."}, []string{"main.pas"}},
		{"npm ci fails", tree{
			"package.json":      `{"name": "x", "dependencies": {"left-pad": "1.0.0"}, "scripts": {"start": "node ."}}`,
			"package-lock.json": `{"name": "x", "lockfileVersion": 3, "packages": {"": {"name": "x"}}}`,
		}, []string{"npm ci", "package-lock.json"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := shared.cli(t, "deploy", c.app.dir(t), "--app", app)
			if r.code != 1 {
				t.Errorf("exit code %d, want 1 (the user's error)\n%s%s", r.code, r.out, r.err)
			}
			for _, want := range c.want {
				if !strings.Contains(r.out+r.err, want) {
					t.Errorf("no %q in:\n%s%s", want, r.out, r.err)
				}
			}
		})
	}
}

func TestBadRequest_IsTheUsersErrorNeverOurs(t *testing.T) {
	taken := shared.destroyed(t, "taken")
	shared.must(t, "create", taken)
	for _, args := range [][]string{
		{"create", taken},
		{"create", "Not-A-Name"},
		{"create", strings.Repeat("a", 200)},
		{"info", "-a", "nosuchapp"},
		{"logs", "-a", "nosuchapp"},
		{"rollback", "-a", taken},
		{"rollback", "99", "-a", taken},
		{"scale", "web=999", "-a", taken},
		{"env", "set", "PORT=1", "-a", taken},
		{"env", "set", "1BAD=1", "-a", taken},
		{"exec", "-a", taken, "--", "true"},
	} {
		r := shared.cli(t, args...)
		if r.code != 1 || r.err == "" {
			t.Errorf("slipway %s: exit code %d, want 1 with a reason; printed %q", strings.Join(args, " "), r.code, r.err)
		}
	}
	for _, args := range [][]string{{"scale", "web=many", "-a", taken}, {"nosuchverb"}, {"deploy", "--nosuchflag"}} {
		if r := shared.cli(t, args...); r.code != 2 {
			t.Errorf("slipway %s: exit code %d, want 2 (usage); printed %q", strings.Join(args, " "), r.code, r.err)
		}
	}
	cmd := shared.Command(t.Context(), "apps", "--server", "http://127.0.0.1:1")
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("an unreachable server: exit code %d, want 3 (platform)", cmd.ProcessState.ExitCode())
	}
}

func TestUpload_OverTheLimit_Is413WithTheNumbers(t *testing.T) {
	req, err := http.NewRequest(http.MethodPost, shared.API+"/v1/apps/toolarge/deployments?create=true", io.LimitReader(zeros{}, 1))
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = 5 << 30
	req.Header.Set("Expect", "100-continue")
	req.Header.Set("Content-Type", "application/zip")
	req.Header.Set("Authorization", "Bearer "+shared.token(t))
	c := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: 10e9}}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(string(b), "1024 MiB") && !strings.Contains(string(b), "1.0 GiB") && !strings.Contains(string(b), fmt.Sprint(1<<30)) {
		t.Errorf("status %d %s, want 413 that names the limit", resp.StatusCode, b)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
