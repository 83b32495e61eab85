package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/slipway-paas/slipway/api/client"
	"github.com/slipway-paas/slipway/internal/atomicfile"
	"github.com/slipway-paas/slipway/internal/paas"
)

// session is whom the CLI talks to and about which app.
type session struct {
	*client.Client
	out *output
	app string // "" if none was named and none could be guessed
}

// login is the CLI's file, written by `slipway login`.
type login struct {
	Server string `json:"server"`
	Token  string `json:"token"`
}

func loginPath() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "slipway", "login.json"), nil
}

// loadLogin reads the file; the environment wins. An absent file is no error.
func loadLogin() (login, error) {
	var l login
	name, err := loginPath()
	if err != nil {
		return l, err
	}
	b, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(b, &l)
	}
	if err != nil && !os.IsNotExist(err) {
		return login{}, paas.Errorf(paas.CodeInvalid, "cannot read %s", name).WithHint("sign in again with slipway login URL").WithCause(err)
	}
	if s := os.Getenv("SLIPWAY_SERVER"); s != "" {
		l = l.at(s)
	}
	if t := os.Getenv("SLIPWAY_TOKEN"); t != "" {
		l.Token = t
	}
	return l, nil
}

// at is the login at another address: a token is told to the server that it is
// for and to no other, so only that of the environment goes along.
func (l login) at(server string) login {
	if strings.TrimRight(server, "/") == strings.TrimRight(l.Server, "/") {
		return l
	}
	return login{Server: server, Token: os.Getenv("SLIPWAY_TOKEN")}
}

// save replaces the file in one step, readable by its owner only.
func (l login) save() error {
	name, err := loginPath()
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	return atomicfile.Write(name, append(b, '\n'), 0o600)
}

// remote adds the flags of verbs that talk to a server.
func remote(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().String("server", "", "address of the API (default: SLIPWAY_SERVER, then that of slipway login)")
	return cmd
}

// ofApp adds the flags of verbs about one app.
func ofApp(cmd *cobra.Command) *cobra.Command {
	remote(cmd)
	cmd.Flags().StringP("app", "a", "", "app name (default: SLIPWAY_APP, then the name of this folder)")
	_ = cmd.RegisterFlagCompletionFunc("app", completeApps)
	return cmd
}

// open is the session of a verb about no app in particular.
func open(cmd *cobra.Command) (*session, error) {
	l, err := loadLogin()
	if err != nil {
		return nil, err
	}
	if s, _ := cmd.Flags().GetString("server"); s != "" {
		l = l.at(s)
	}
	if l.Server == "" {
		return nil, paas.Errorf(paas.CodeUnauthorized, "no server is known").WithHint("slipway login URL --token-file FILE; `make run` does it for you")
	}
	c, err := client.New(l.Server, l.Token)
	if err != nil {
		return nil, usageError{err}
	}
	return &session{Client: c, out: newOutput(cmd)}, nil
}

// openApp is the session of a verb about one app: the one that the flags name,
// else the one that place (a folder or an archive) is called like.
func openApp(cmd *cobra.Command, place string) (*session, error) {
	app := appName(cmd, place)
	if app == "" {
		return nil, usageError{paas.Errorf(paas.CodeInvalid, "which app? the name of %s does not tell", place).WithHint("give --app NAME, or set SLIPWAY_APP")}
	}
	if err := paas.ValidateAppName(app); err != nil {
		return nil, err
	}
	s, err := open(cmd)
	if err != nil {
		return nil, err
	}
	s.app = app
	return s, nil
}

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// archiveEndings are not part of an app's name; the longer of two that fit is first.
var archiveEndings = []string{".tar.gz", ".tgz", ".zip", ".jar", ".war", ".ear", ".tar"}

// appName is --app, else SLIPWAY_APP, else the folder's or archive's name made to
// fit; "" when nothing of it fits.
func appName(cmd *cobra.Command, place string) string {
	if a, _ := cmd.Flags().GetString("app"); a != "" {
		return a
	}
	if a := os.Getenv("SLIPWAY_APP"); a != "" {
		return a
	}
	abs, err := filepath.Abs(place)
	if err != nil {
		return ""
	}
	base := strings.ToLower(filepath.Base(abs))
	if info, err := os.Stat(abs); err == nil && !info.IsDir() {
		for _, ending := range archiveEndings {
			if name, ok := strings.CutSuffix(base, ending); ok {
				base = name
				break
			}
		}
	}
	name := strings.TrimLeft(notInName.ReplaceAllString(base, "-"), "-0123456789")
	return strings.TrimRight(name[:min(len(name), paas.MaxAppName)], "-")
}

func completeApps(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	s, err := open(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	apps, err := s.Apps(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, a := range apps {
		names = append(names, a.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func newLoginCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "login [URL]",
		Short: "Sign in to a Slipway server",
		Long:  "Checks the token against the server and keeps both for later calls. Without a token it is read from standard input.",
		Args:  cobra.MaximumNArgs(1),
		RunE:  runLogin,
	}
	cmd.Flags().String("token", "", "token; better by --token-file or standard input")
	cmd.Flags().String("token-file", "", "file that holds the token")
	cmd.Flags().Bool("show-token", false, "print the token in use and change nothing")
	return cmd
}

func runLogin(cmd *cobra.Command, args []string) error {
	l, err := loadLogin()
	if err != nil && len(args) == 0 {
		return err // with a URL, what cannot be read is replaced
	}
	if show, _ := cmd.Flags().GetBool("show-token"); show {
		fmt.Fprintln(cmd.OutOrStdout(), l.Token)
		return nil
	}
	if len(args) == 1 {
		l.Server = args[0]
	}
	if l.Server == "" {
		return usageError{paas.Errorf(paas.CodeInvalid, "which server?").WithHint("slipway login http://127.0.0.1:8700")}
	}
	if l.Token, err = readToken(cmd); err != nil {
		return err
	}
	c, err := client.New(l.Server, l.Token)
	if err != nil {
		return usageError{err}
	}
	who, err := c.Whoami(cmd.Context())
	if err != nil {
		return err
	}
	if err := l.save(); err != nil {
		return err
	}
	return newOutput(cmd).done(map[string]string{"server": l.Server, "user": who.User}, "signed in to %s as %s", l.Server, who.User)
}

func readToken(cmd *cobra.Command) (string, error) {
	if t, _ := cmd.Flags().GetString("token"); t != "" {
		return t, nil
	}
	if name, _ := cmd.Flags().GetString("token-file"); name != "" {
		b, err := os.ReadFile(name)
		if err != nil {
			return "", usageError{fmt.Errorf("read token: %w", err)}
		}
		return checkToken(string(b), name)
	}
	fmt.Fprint(cmd.ErrOrStderr(), "token: ")
	if in := cmd.InOrStdin(); isTerminal(in) {
		b, err := term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
		if err != nil {
			return "", fmt.Errorf("read token: %w", err)
		}
		return checkToken(string(b), "what was typed")
	}
	line, err := readLine(cmd)
	if err != nil {
		return "", err
	}
	return checkToken(line, "standard input")
}

// checkToken refuses what cannot be sent as one; it does not repeat it.
func checkToken(text, from string) (string, error) {
	t := strings.TrimSpace(text)
	if t == "" || strings.ContainsFunc(t, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", usageError{fmt.Errorf("no token in %s: it must be one word; use --token-file FILE", from)}
	}
	return t, nil
}

// readLine reads a line of standard input without its end, or returns when the
// user interrupts; "" at the end of input.
func readLine(cmd *cobra.Command) (string, error) {
	type answer struct {
		line string
		err  error
	}
	got := make(chan answer, 1)
	go func() { // stays in its read after an interruption; the process ends then
		line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
		if err == io.EOF {
			err = nil
		}
		got <- answer{strings.TrimRight(line, "\r\n"), err}
	}()
	select {
	case a := <-got:
		return a.line, a.err
	case <-cmd.Context().Done():
		return "", cmd.Context().Err()
	}
}
