package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/slipway-paas/slipway/internal/paas"
)

func TestAppName_IsGuessedFromThePlace(t *testing.T) {
	alone(t)
	long := strings.Repeat("a", 60)
	for _, c := range []struct {
		place string
		file  bool
		want  string
	}{
		{"shop", false, "shop"},
		{"Shop", false, "shop"},
		{"shop2", false, "shop2"},
		{"shop-v2", false, "shop-v2"},
		{"my_shop.app", false, "my-shop-app"},
		{"--shop--", false, "shop"},
		{"2024-shop", false, "shop"},
		{"my  shop (copy)", false, "my-shop-copy"},
		{"café", false, "caf"},
		{"магазин", false, ""},
		{"2024", false, ""},
		{"...", false, ""},
		{"shop.zip", false, "shop-zip"},
		{"shop.zip", true, "shop"},
		{"shop.tar.gz", true, "shop"},
		{"SHOP.ZIP", true, "shop"},
		{"shop.tgz", true, "shop"},
		{"shop.jar", true, "shop"},
		{"shop.war", true, "shop"},
		{"shop.zip.tar", true, "shop-zip"},
		{"shop-1.2.3.zip", true, "shop-1-2-3"},
		{".zip", true, ""},
		{"shop\n\x1b[31m", false, "shop-31m"},
		{"shop;rm -rf", false, "shop-rm-rf"},
		{long, false, long[:paas.MaxAppName]},
		{long[:paas.MaxAppName-1] + "-b", false, long[:paas.MaxAppName-1]},
	} {
		dir := t.TempDir()
		place := filepath.Join(dir, c.place)
		var err error
		if c.file {
			err = os.WriteFile(place, nil, 0o600)
		} else {
			err = os.Mkdir(place, 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
		got := appName(&cobra.Command{}, place)
		if got != c.want {
			t.Errorf("%q is called %q, want %q", c.place, got, c.want)
		}
		if err := paas.ValidateAppName(got); got != "" && err != nil {
			t.Errorf("%q is called %q: %v", c.place, got, err)
		}
	}
	if got := appName(&cobra.Command{}, "/"); got != "" {
		t.Errorf("/ is called %q", got)
	}
}

func TestAppName_Said_WinsOverGuessed(t *testing.T) {
	alone(t)
	cmd := ofApp(&cobra.Command{})
	t.Setenv("SLIPWAY_APP", "from-env")
	if got := appName(cmd, "/x/folder"); got != "from-env" {
		t.Errorf("got %q", got)
	}
	if err := cmd.Flags().Set("app", "from-flag"); err != nil {
		t.Fatal(err)
	}
	if got := appName(cmd, "/x/folder"); got != "from-flag" {
		t.Errorf("got %q", got)
	}
	for _, bad := range []string{"../etc", "a/b", "Shop", "a b", "x?y", strings.Repeat("a", 41)} {
		if r := cli(t, "", "info", "-a", bad); r.code != exitUser || !strings.Contains(r.err, "app name") {
			t.Errorf("-a %q: exit code %d, printed %q", bad, r.code, r.err)
		}
	}
}

func TestLogin_KeepsTheTokenForItsOwnerOnly(t *testing.T) {
	p := newServer(t)
	home := alone(t)
	tokenFile := filepath.Join(home, "token")
	if err := os.WriteFile(tokenFile, []byte(p.Token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(home, "slipway", "login.json")
	for _, c := range []struct {
		how   string
		stdin string
		args  []string
	}{
		{"token", "", []string{"--token", p.Token}},
		{"file", "", []string{"--token-file", tokenFile}},
		{"standard input", p.Token + "\n", nil},
		{"standard input without an end of line", p.Token, nil},
		{"json", "", []string{"--token", p.Token, "--json"}},
	} {
		os.Remove(name)
		r := cli(t, c.stdin, append([]string{"login", p.HTTP.URL}, c.args...)...)
		if r.code != exitOK || !strings.Contains(r.out, "admin") {
			t.Errorf("%s: exit code %d, printed %q and %q", c.how, r.code, r.out, r.err)
		}
		if strings.Contains(r.out+r.err, p.Token) {
			t.Errorf("%s: the token was printed", c.how)
		}
		for path, want := range map[string]os.FileMode{name: 0o600, filepath.Dir(name): 0o700} {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: %s: mode %v, error %v; want %v", c.how, path, info, err, want)
			}
		}
	}
	if r := cli(t, "", "apps"); r.code != exitOK {
		t.Errorf("signed in, apps: exit code %d, %s", r.code, r.err)
	}
	if r := cli(t, "", "login", "--show-token"); r.out != p.Token+"\n" {
		t.Errorf("--show-token printed %q", r.out)
	}
}

func TestLogin_Refused_ChangesNothingAndDoesNotRepeatTheToken(t *testing.T) {
	p := newServer(t)
	home := alone(t)
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"login", p.HTTP.URL, "--token", "slipway_wrong"}, exitUser},
		{[]string{"login", p.HTTP.URL}, exitUsage},
		{[]string{"login", p.HTTP.URL, "--token-file", filepath.Join(home, "none")}, exitUsage},
	} {
		r := cli(t, "wrong token here\n", c.args...)
		if r.code != c.code || strings.Contains(r.err, "wrong token") || strings.Contains(r.err, "slipway_wrong") {
			t.Errorf("%v: exit code %d, printed %q", c.args, r.code, r.err)
		}
	}
	if _, err := os.Stat(filepath.Join(home, "slipway", "login.json")); !os.IsNotExist(err) {
		t.Errorf("a refused login was kept (%v)", err)
	}
	if r := cli(t, "", "apps"); r.code != exitUser || !strings.Contains(r.err, "slipway login URL") {
		t.Errorf("signed out, apps: exit code %d, %q", r.code, r.err)
	}
}

func TestLogin_AnotherServer_DoesNotGetTheToken(t *testing.T) {
	p := newServer(t)
	alone(t)
	if r := cli(t, "", "login", p.HTTP.URL, "--token", p.Token); r.code != exitOK {
		t.Fatal(r.err)
	}
	got := make(chan string, 16)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Get("Authorization")
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer other.Close()
	if r := cli(t, "", "apps", "--server", other.URL); r.code != exitUser {
		t.Errorf("--server: exit code %d, %s", r.code, r.err)
	}
	if auth := <-got; strings.Contains(auth, p.Token) {
		t.Errorf("--server sent %q", auth)
	}
	t.Setenv("SLIPWAY_SERVER", other.URL)
	cli(t, "", "apps")
	if auth := <-got; strings.Contains(auth, p.Token) {
		t.Errorf("SLIPWAY_SERVER sent %q", auth)
	}
	if r := cli(t, "", "apps", "--server", p.HTTP.URL+"/"); r.code == exitOK {
		t.Error("SLIPWAY_SERVER names another; its login has no token for --server")
	}
	t.Setenv("SLIPWAY_SERVER", "")
	if r := cli(t, "", "apps", "--server", p.HTTP.URL+"/"); r.code != exitOK {
		t.Errorf("the same server again: exit code %d, %s", r.code, r.err)
	}
}

func TestLogin_BrokenFile_IsSaid(t *testing.T) {
	home := alone(t)
	name := filepath.Join(home, "slipway", "login.json")
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(`{"token": "geheim`), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := cli(t, "", "apps"); r.code != exitUser || !strings.Contains(r.err, name) || strings.Contains(r.err, "geheim") {
		t.Errorf("exit code %d, printed %q", r.code, r.err)
	}
	p := newServer(t)
	t.Setenv("XDG_CONFIG_HOME", home)
	if r := cli(t, "", "login", p.HTTP.URL, "--token", p.Token); r.code != exitOK {
		t.Errorf("signing in again: exit code %d, %s", r.code, r.err)
	}
}
