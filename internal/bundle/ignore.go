package bundle

import (
	"bufio"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/gitignore"
)

// always is never packed: version control, our own data, and dust.
var always = map[string]bool{
	".git": true, ".hg": true, ".svn": true, ".slipway": true, ".DS_Store": true, "__MACOSX": true, "Thumbs.db": true,
}

// lockFiles mean that node_modules can be made again from them.
var lockFiles = []string{"package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "yarn.lock"}

// ignorer decides what to leave out. enter must be called for a folder before
// rule is asked for what is in it.
type ignorer struct {
	dir      string
	git, own []gitignore.Pattern
	locked   map[string]bool // folders with a lock file
}

func newIgnorer(dir string) *ignorer {
	return &ignorer{dir: dir, locked: map[string]bool{}}
}

// enter reads the ignore files of a folder (relative, slashes, "." = top).
func (ig *ignorer) enter(rel string) error {
	var domain []string
	if rel != "." {
		domain = strings.Split(rel, "/")
	}
	full := filepath.Join(ig.dir, filepath.FromSlash(rel))
	git, err := readPatterns(filepath.Join(full, ".gitignore"), domain)
	if err != nil {
		return err
	}
	own, err := readPatterns(filepath.Join(full, ".slipwayignore"), domain)
	if err != nil {
		return err
	}
	ig.git, ig.own = append(ig.git, git...), append(ig.own, own...)
	for _, l := range lockFiles {
		if _, err := os.Stat(filepath.Join(full, l)); err == nil {
			ig.locked[rel] = true
		}
	}
	return nil
}

// rule names what keeps rel out, or "" when it goes in. The last matching
// pattern of .slipwayignore decides; without one, .gitignore does.
func (ig *ignorer) rule(rel string, isDir bool) string {
	if always[path.Base(rel)] {
		return "always"
	}
	parts := strings.Split(rel, "/")
	switch last(ig.own, parts, isDir) {
	case gitignore.Exclude:
		return ".slipwayignore"
	case gitignore.Include:
		return ""
	}
	if isDir && path.Base(rel) == "node_modules" && ig.locked[path.Dir(rel)] {
		return "installed from the lock file"
	}
	if last(ig.git, parts, isDir) == gitignore.Exclude {
		return ".gitignore"
	}
	return ""
}

func last(patterns []gitignore.Pattern, parts []string, isDir bool) gitignore.MatchResult {
	for i := len(patterns) - 1; i >= 0; i-- {
		if m := patterns[i].Match(parts, isDir); m != gitignore.NoMatch {
			return m
		}
	}
	return gitignore.NoMatch
}

func readPatterns(name string, domain []string) ([]gitignore.Pattern, error) {
	f, err := os.Open(name)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []gitignore.Pattern
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line := sc.Text()
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		out = append(out, gitignore.ParsePattern(line, domain))
	}
	return out, nil
}
