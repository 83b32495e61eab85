package api_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/slipway-paas/slipway/api/client"
	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

func TestExec_Commands(t *testing.T) {
	p := newPlatform(t)
	p.Deploy(t, "shop", "PK")
	app, _ := p.Client.App(t.Context(), "shop")
	p.Runtime.Set(nil, paas.Instance{ID: "shop-1-1-0", AppID: app.ID, AppName: "shop", Slot: 1, State: paas.InstanceHealthy},
		paas.Instance{ID: "shop-1-2-0", AppID: app.ID, AppName: "shop", Slot: 2, State: paas.InstanceExited})
	exec := func(instance string, o client.ExecOptions) (string, int, error) {
		var out bytes.Buffer
		o.Stdout, o.Stderr = &out, &out
		code, err := p.Client.Exec(t.Context(), "shop", instance, o)
		return out.String(), code, err
	}
	big := strings.Repeat("0123456789", 30_000)
	if out, code, err := exec("web.1", client.ExecOptions{Args: []string{"cat"}, Stdin: strings.NewReader(big)}); out != big || code != 0 || err != nil {
		t.Errorf("cat: %d bytes, code %d, %v", len(out), code, err)
	}
	if out, code, err := exec("shop-1-1-0", client.ExecOptions{Args: []string{"fail"}}); out != "no\n" || code != 3 || err != nil {
		t.Errorf("fail: %q, code %d, %v", out, code, err)
	}
	if out, _, err := exec("web.1", client.ExecOptions{Args: []string{"size"}, TTY: true, Size: paas.TermSize{Cols: 80, Rows: 25}}); out != "P\x19" || err != nil {
		t.Errorf("size: %q, %v", out, err)
	}
	sizes := make(chan paas.TermSize, 1)
	sizes <- paas.TermSize{Cols: 81, Rows: 26}
	if out, _, err := exec("web.1", client.ExecOptions{Args: []string{"size"}, TTY: true, Resize: sizes}); out != "Q\x1a" || err != nil {
		t.Errorf("resize: %q, %v", out, err)
	}
	if _, _, err := exec("web.1", client.ExecOptions{Args: []string{"nothing"}}); paas.CodeOf(err) != paas.CodeNotFound || client.RequestID(err) == "" {
		t.Errorf("an instance that went away: %v", err)
	}
	for _, name := range []string{"web.2", "web.9", "worker.1", "other-1-1-0"} {
		if _, _, err := exec(name, client.ExecOptions{Args: []string{"cat"}}); paas.CodeOf(err) != paas.CodeNotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	want(t, ask(t, p, "GET", "/v1/apps/shop/instances/web.1/exec?arg=ls", ""), 400, paas.CodeInvalid)
	want(t, ask(t, p, "GET", "/v1/apps/shop/instances/web.1/exec?arg=ls", "", "Upgrade", "websocket", "Connection", "Upgrade",
		"Origin", "http://evil.example"), 403, paas.CodeForbidden)
}

func TestExec_EndsWithClientAndServer(t *testing.T) {
	p := newPlatform(t)
	p.Deploy(t, "shop", "PK")
	app, _ := p.Client.App(t.Context(), "shop")
	p.Runtime.Set(nil, paas.Instance{ID: "shop-1-1-0", AppID: app.ID, AppName: "shop", Slot: 1, State: paas.InstanceHealthy})
	hang := func(ctx context.Context) chan error {
		done := make(chan error, 1)
		stdin, _ := io.Pipe()
		t.Cleanup(func() { stdin.Close() })
		go func() {
			_, err := p.Client.Exec(ctx, "shop", "web.1", client.ExecOptions{Args: []string{"hang"}, Stdin: stdin})
			done <- err
		}()
		eventually(t, "the command runs", func() bool { return p.Runtime.Hung.Load() == 1 })
		return done
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := hang(ctx)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("client left: %v", err)
	}
	eventually(t, "the command ended with its client", func() bool { return p.Runtime.Hung.Load() == 0 })
	done = hang(t.Context())
	p.API.Close()
	if err := <-done; paas.CodeOf(err) != paas.CodeUnavailable {
		t.Errorf("server stopped: %v", err)
	}
	eventually(t, "the command ended with the server", func() bool { return p.Runtime.Hung.Load() == 0 })
}

func TestExec_StrangeFramesEndIt(t *testing.T) {
	p := newPlatform(t)
	p.Deploy(t, "shop", "PK")
	app, _ := p.Client.App(t.Context(), "shop")
	p.Runtime.Set(nil, paas.Instance{ID: "shop-1-1-0", AppID: app.ID, AppName: "shop", Slot: 1, State: paas.InstanceHealthy})
	for _, frame := range [][]byte{{}, {9}, {3, 1}, {v1.ChannelStdout, 'x'}} {
		conn, _, err := websocket.Dial(t.Context(), p.HTTP.URL+"/v1/apps/shop/instances/web.1/exec?arg=hang",
			&websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + p.Token}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Write(t.Context(), websocket.MessageBinary, frame); err != nil {
			t.Fatal(err)
		}
		_, _, err = conn.Read(t.Context())
		if websocket.CloseStatus(err) != websocket.StatusUnsupportedData {
			t.Errorf("frame %v: %v", frame, err)
		}
		conn.CloseNow()
	}
	eventually(t, "all commands ended", func() bool { return p.Runtime.Hung.Load() == 0 })
}
