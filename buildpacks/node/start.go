package node

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/slipway-paas/slipway/buildpacks/source"
)

// scriptRun is a command that runs one script of package.json and nothing else.
var scriptRun = regexp.MustCompile(`^(npm|yarn|pnpm)(?:\s+(?:run|run-script))?\s+([A-Za-z0-9_:.-]+)$`)

// maxScriptHops bounds scripts that call scripts.
const maxScriptHops = 5

// start decides the start command: manifest.json, Procfile, scripts.start, main,
// then the usual files.
func (n *planner) start() error {
	command, why, err := n.command()
	if err != nil {
		return err
	}
	direct, how := n.unwrap(command)
	if how != "" {
		why += "; " + how
	}
	argv, replaced := source.ShellArgv(direct)
	if !replaced {
		n.p.Warnings = append(n.p.Warnings, "the start command keeps a shell in front of the app, which may not pass SIGTERM on; end it with `exec …`")
	}
	n.p.Start = argv
	n.p.Decide("start", direct, why)
	return n.tools(n.mgr, usesTool(direct))
}

func usesTool(command string) bool {
	for _, w := range strings.Fields(command) {
		if w == "yarn" || w == "pnpm" {
			return true
		}
	}
	return false
}

func (n *planner) command() (command, why string, err error) {
	t, _ := n.src.AppType()
	if c, why := n.src.Command(t); c != "" {
		return c, why, nil
	}
	if c := strings.TrimSpace(n.pkg.Scripts["start"]); c != "" {
		return "npm start", "scripts.start in package.json", nil
	}
	if main := n.mainFile(); main != "" {
		return "node " + quote(main), "main in package.json", nil
	}
	if f := entryFile(n.src); f != "" {
		return "node " + f, f + " is there", nil
	}
	return "", "", n.noStart()
}

// mainFile resolves main as Node does: the name, with .js, or index.js inside.
func (n *planner) mainFile() string {
	if n.pkg.Main == "" {
		return ""
	}
	main := path.Clean("/" + n.pkg.Main)[1:]
	for _, f := range []string{main, main + ".js", main + "/index.js"} {
		if f != "" && n.src.IsFile(f) {
			return f
		}
	}
	if n.needsBuild() && main != "" {
		return main // the build makes it
	}
	return ""
}

func (n *planner) noStart() error {
	looked := []string{`"command" in manifest.json`, "web in Procfile", `"start" in package.json's scripts`}
	if n.pkg.Main != "" {
		looked = append(looked, fmt.Sprintf("the file %q (main in package.json)", n.pkg.Main))
	} else {
		looked = append(looked, "main in package.json")
	}
	looked = append(looked, strings.Join(entryFiles[:4], ", "))
	return source.Failf(source.FailNoStart,
		`add "command": "node FILE.js" to manifest.json, or a Procfile with the line: web: node FILE.js`,
		"no start command was found; looked for %s", strings.Join(looked, ", "))
}

// unwrap replaces `npm start` and the like by the script's own line: it starts
// sooner, takes less memory, and SIGTERM reaches the app.
func (n *planner) unwrap(command string) (direct, how string) {
	direct = command
	for range maxScriptHops {
		m := scriptRun.FindStringSubmatch(strings.TrimSpace(direct))
		if m == nil {
			break
		}
		script := m[2]
		line := strings.TrimSpace(n.pkg.Scripts[script])
		if line == "" || n.pkg.Scripts["pre"+script] != "" || n.pkg.Scripts["post"+script] != "" || strings.Contains(line, "npm_") {
			break // npm would do more than run this line
		}
		direct, how = line, fmt.Sprintf("run without %s, so that signals reach the app", m[1])
	}
	return direct, how
}

// devAtRuntime names the development dependency that the start command needs.
func (n *planner) devAtRuntime() string {
	for _, w := range strings.Fields(n.p.Start[len(n.p.Start)-1]) {
		if pkg := n.lck.devBins[path.Base(strings.Trim(w, `"'`))]; pkg != "" && !strings.Contains(w, "=") {
			return pkg
		}
	}
	return ""
}

func quote(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
