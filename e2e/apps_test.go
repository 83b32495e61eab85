package e2e

import (
	"archive/zip"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree is an app's source: path → content.
type tree map[string]string

// dir writes the app to a folder.
func (f tree) dir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	f.writeTo(t, dir)
	return dir
}

func (f tree) writeTo(t testing.TB, dir string) {
	t.Helper()
	for name, content := range f {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// zip packs the app as a user's zip tool would.
func (f tree) zip(t testing.TB) []byte {
	t.Helper()
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	if err := zw.AddFS(os.DirFS(f.dir(t))); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func (f tree) zipFile(t testing.TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "app.zip")
	if err := os.WriteFile(name, f.zip(t), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// expressApp is the sample with its lock file, answering with text.
func expressApp(t testing.TB, text string) tree {
	t.Helper()
	lock, err := os.ReadFile("../examples/node-hello/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	pkg, err := os.ReadFile("../examples/node-hello/package.json")
	if err != nil {
		t.Fatal(err)
	}
	return tree{
		"package.json": string(pkg), "package-lock.json": string(lock),
		"server.js": fmt.Sprintf(`
const app = require("express")(), os = require("os");
app.get("/", (q, r) => r.send(%q + " on " + os.hostname()));
app.get("/slow", (q, r) => setTimeout(() => r.send("slow done"), 2000));
app.get("/env/:name", (q, r) => r.send(String(process.env[q.params.name])));
const s = app.listen(process.env.PORT, () => console.log("listening"));
process.on("SIGTERM", () => s.close(() => process.exit(0)));
`, text),
	}
}

// plainApp needs nothing but Node; body is its server.js.
func plainApp(body string) tree {
	return tree{
		"manifest.json": `{"runtime": {"majorVersion": "22"}, "command": "node server.js"}`,
		"server.js":     body,
	}
}

// answering is a plain app that answers text, with a slow path, and finishes
// open requests on SIGTERM.
func answering(text string) tree {
	return plainApp(fmt.Sprintf(`
const http = require("http"), os = require("os");
const s = http.createServer((q, r) => {
  if (q.url === "/slow") return setTimeout(() => r.end("slow done"), 2000);
  if (q.url.startsWith("/log?")) { console.log(decodeURIComponent(q.url.slice(5))); return r.end("logged"); }
  if (q.url === "/crash") { r.end("bye"); setTimeout(() => process.exit(3), 10); return; }
  if (q.url.startsWith("/env?")) return r.end(String(process.env[q.url.slice(5)]));
  r.end(%q + " on " + os.hostname());
}).listen(process.env.PORT, "0.0.0.0", () => console.log("listening"));
process.on("SIGTERM", () => s.close(() => process.exit(0)));
`, text))
}

// accApp is what an ACC user uploads: dependencies inside, a command in
// manifest.json (acc-api.md §1).
func accApp(text string) tree {
	f := answering(text)
	f["manifest.json"] = `{"runtime": {"majorVersion": "20"}, "command": "node server.js", "startupTime": "60", "release": {}, "notes": "from ACC"}`
	f["package.json"] = `{"name": "acc", "version": "1.0.0", "dependencies": {"greet": "1.0.0"}}`
	f["node_modules/greet/package.json"] = `{"name": "greet", "version": "1.0.0", "main": "index.js"}`
	f["node_modules/greet/index.js"] = `module.exports = () => "vendored";`
	f["server.js"] = strings.Replace(f["server.js"], "r.end(\""+text, "r.end(require(\"greet\")() + \" "+text, 1)
	return f
}
