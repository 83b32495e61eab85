package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/api"
	"github.com/slipway-paas/slipway/api/apitest"
	"github.com/slipway-paas/slipway/api/client"
	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

func deploy(t *testing.T, p *apitest.Platform, app, content string) v1.Deployment {
	t.Helper()
	d, err := p.Client.Deploy(t.Context(), client.DeployRequest{App: app, Create: true, Open: apitest.Content(content)})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// story is what a follower was told, one word per event.
func story(events []v1.DeploymentEvent) string {
	var words []string
	for _, e := range events {
		w := e.Type + ":" + e.Phase
		if e.Log != nil {
			w = "log:" + e.Log.Text
		}
		if e.Waiting != "" {
			w = "waiting:" + e.Waiting
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

func TestFollow_TellsTheWholeStoryInOrder(t *testing.T) {
	p := newPlatform(t)
	d := deploy(t, p, "shop", "PK")
	events := make(chan v1.DeploymentEvent, 100)
	result := make(chan error, 1)
	go func() {
		last, err := p.Client.FollowDeployment(t.Context(), "shop", d.ID, func(e v1.DeploymentEvent) { events <- e })
		if err == nil && last.State != "live" {
			err = errors.New("ended at " + last.State)
		}
		close(events)
		result <- err
	}()
	var told []v1.DeploymentEvent
	until := func(kind, phase string) {
		t.Helper()
		for e := range events {
			told = append(told, e)
			if e.Type == kind && e.Phase == phase {
				return
			}
		}
		t.Fatalf("ended before %s:%s: %s", kind, phase, story(told))
	}
	until("state", "queued")
	b := p.Claim(t)
	until("state", "building")
	p.BuildLogs.Add(b.ID, "one")
	until("log", "building")
	p.BuildLogs.Add(b.ID, "two")
	if _, err := p.Store.FinishBuild(t.Context(), b.ID, b.Attempt, paas.BuildResult{ImageRef: "r", ImageDigest: "sha256:0", Type: paas.TypeWeb, Command: []string{"x"}}, ""); err != nil {
		t.Fatal(err)
	}
	until("state", "rolling")
	if err := p.Store.SetWaiting(t.Context(), d.ID, "0-of-1"); err != nil {
		t.Fatal(err)
	}
	until("waiting", "rolling")
	p.Move(t, d.ID, paas.DeploymentRolling, paas.DeploymentLive, nil)
	until("done", "live")
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if got := story(told); !strings.HasPrefix(got, "state:queued state:building log:one log:two state:rolling") ||
		!strings.HasSuffix(got, "waiting:0-of-1 state:live done:live") {
		t.Errorf("story %q", got)
	}
	// Who comes again after the last word but one is told only the last.
	var again []v1.DeploymentEvent
	for _, e := range resume(t, p, "/v1/apps/shop/deployments/1/events", told[len(told)-3].ID) {
		var d v1.DeploymentEvent
		if err := json.Unmarshal([]byte(e), &d); err != nil {
			t.Fatal(err)
		}
		again = append(again, d)
	}
	if got := story(again); got != "state:live done:live" {
		t.Errorf("after Last-Event-ID %s: %q", told[len(told)-3].ID, got)
	}
	want(t, ask(t, p, "GET", "/v1/apps/shop/deployments/1/events", "", "Last-Event-ID", "1.2.3"), 400, paas.CodeInvalid)
}

// resume reads a stream from Last-Event-ID to its end and returns the data.
func resume(t *testing.T, p *apitest.Platform, path, id string) (data []string) {
	t.Helper()
	a := ask(t, p, "GET", path, "", "Last-Event-ID", id, "Accept", "text/event-stream")
	for _, line := range strings.Split(string(a.body), "\n") {
		if d, ok := strings.CutPrefix(line, "data: "); ok {
			data = append(data, d)
		}
	}
	return data
}

func TestFollow_FailureIsTheLastWord(t *testing.T) {
	p := newPlatform(t)
	d := deploy(t, p, "shop", "PK")
	b := p.Claim(t)
	f := paas.Failure{Code: "no_start_command", Message: "no start command found", Hint: "add one", Output: []string{"a", "b"}}
	if err := p.Store.FailBuild(t.Context(), b.ID, b.Attempt, paas.BuildFailed, f, ""); err != nil {
		t.Fatal(err)
	}
	last, err := p.Client.FollowDeployment(t.Context(), "shop", d.ID, nil)
	if err != nil || last.State != "failed" || last.Failure == nil || last.Failure.Hint != "add one" {
		t.Errorf("last %+v, %v", last, err)
	}
}

// The server goes away in the middle; the client goes on at the next one.
func TestFollow_SurvivesTheServersRestart(t *testing.T) {
	p := newPlatform(t)
	front := newFront(t, p.API)
	c, err := client.New(front.url, p.Token)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d := deploy(t, p, "shop", "PK")
	b := p.Claim(t)
	p.BuildLogs.Add(b.ID, "one")
	var told []v1.DeploymentEvent
	seen := make(chan string, 100)
	result := make(chan error, 1)
	go func() {
		_, err := c.FollowToEnd(t.Context(), "shop", d.ID, func(e v1.DeploymentEvent) {
			told = append(told, e)
			seen <- e.Type
		})
		result <- err
	}()
	for (<-seen) != "log" {
	}
	front.kill()
	p.BuildLogs.Add(b.ID, "two")
	if _, err := p.Store.FinishBuild(t.Context(), b.ID, b.Attempt, paas.BuildResult{ImageRef: "r", ImageDigest: "sha256:0", Type: paas.TypeWeb, Command: []string{"x"}}, ""); err != nil {
		t.Fatal(err)
	}
	front.revive()
	p.Succeed(t, d.ID)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	got := story(told)
	if strings.Count(got, "log:one") != 1 || strings.Count(got, "log:two") != 1 || !strings.HasSuffix(got, "done:succeeded") {
		t.Errorf("story %q: each line once, and the end", got)
	}
}

func TestEvents_StreamResumes(t *testing.T) {
	p := newPlatform(t, func(d *api.Deps) { d.Config.Heartbeat = 5 * time.Millisecond })
	deploy(t, p, "shop", "PK")
	all, err := p.Client.Events(t.Context(), "", 0, 0)
	if err != nil || len(all.Events) < 2 {
		t.Fatalf("events %+v, %v", all, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var got []int64
	err = p.Client.FollowEvents(ctx, "", all.Events[0].ID, func(e v1.Event) {
		if got = append(got, e.ID); e.ID == all.Next {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || len(got) != len(all.Events)-1 {
		t.Errorf("got %v of %+v, %v", got, all, err)
	}
	if err := p.Client.DeleteApp(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	app, _ := p.Store.App(t.Context(), "shop")
	done := make(chan error, 1)
	go func() { done <- p.Client.FollowEvents(t.Context(), "shop", -1, func(v1.Event) {}) }()
	if _, err := p.Store.RemoveApp(t.Context(), app.ID); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil && paas.CodeOf(err) != paas.CodeNotFound {
		t.Errorf("the stream of an app that is gone: %v", err)
	}
}

func TestStreams_BeatWhenQuiet(t *testing.T) {
	p := newPlatform(t, func(d *api.Deps) { d.Config.Heartbeat = 5 * time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", p.HTTP.URL+"/v1/events", nil)
	req.Header.Set("Authorization", "Bearer "+p.Token)
	req.Header.Set("Accept", "text/event-stream")
	resp, err := p.HTTP.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil || !strings.HasPrefix(line, ":") {
		t.Errorf("first line %q, %v", line, err)
	}
}

func TestLogs_InEachForm(t *testing.T) {
	p := newPlatform(t)
	deploy(t, p, "shop", "PK")
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for i, text := range []string{"hello", "a\x1b]52;c;x\x07\nb", `<b>"`} {
		p.Logs.Add(paas.LogLine{At: at.Add(time.Duration(i)), Instance: "shop-1-1-0", Slot: 1, Release: 1, Stream: "stdout", Text: text})
	}
	if a := ask(t, p, "GET", "/v1/apps/shop/logs", ""); !strings.HasPrefix(string(a.body), "2026-01-02T03:04:05.000Z web.1 hello\n") {
		t.Errorf("text %q", a.body)
	}
	if p.Logs.Query.Tail != 1000 {
		t.Errorf("tail %d, want 1000", p.Logs.Query.Tail)
	}
	a := ask(t, p, "GET", "/v1/apps/shop/logs?tail=all", "", "Accept", "application/x-ndjson")
	if n := strings.Count(string(a.body), "\n"); n != 3 || p.Logs.Query.Tail != 0 {
		t.Errorf("%d lines, tail %d: %q", n, p.Logs.Query.Tail, a.body)
	}
	var got []string
	err := p.Client.Logs(t.Context(), "shop", client.LogOptions{Tail: 7, Instance: "web.1"}, func(l v1.LogLine) { got = append(got, l.Text) })
	if err != nil || len(got) != 3 || got[1] != "a\x1b]52;c;x\x07\nb" || p.Logs.Query.Instance != "web.1" || p.Logs.Query.Tail != 7 {
		t.Errorf("lines %q, query %+v, %v", got, p.Logs.Query, err)
	}
	if data := resume(t, p, "/v1/apps/shop/logs", at.Add(1).Format(time.RFC3339Nano)); len(data) != 2 { // the third line and done
		t.Errorf("resumed %q", data)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = p.Client.Logs(ctx, "shop", client.LogOptions{Follow: true}, func(l v1.LogLine) {
		if l.Text == `<b>"` {
			p.Logs.Add(paas.LogLine{At: at.Add(time.Hour), Text: "later"})
		}
		if l.Text == "later" {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("followed logs ended with %v", err)
	}
}

func TestBuildLog_Follows(t *testing.T) {
	p := newPlatform(t)
	d := deploy(t, p, "shop", "PK")
	var got []string
	done := make(chan error, 1)
	go func() {
		done <- p.Client.BuildLog(t.Context(), "shop", d.Build, true, func(l v1.BuildLine) { got = append(got, l.Text) })
	}()
	p.Build(t, "one", "two")
	if err := <-done; err != nil || strings.Join(got, " ") != "one two" {
		t.Errorf("lines %q, %v", got, err)
	}
}
