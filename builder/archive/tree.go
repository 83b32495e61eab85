package archive

import (
	"context"
	"io/fs"
	"path"
	"sort"
	"strings"
)

// item is an Entry and where its content lies.
type item struct {
	Entry
	offset     int64  // of the content: in the zip (compressed) or in the spool file
	compressed int64  // bytes in the zip
	method     uint16 // zip method
}

// tree holds the checked nodes of an archive.
type tree struct {
	items  []*item // sorted by path once done
	byPath map[string]*item
	byCase map[string]string // caseKey → path
	kids   map[string][]*item
	most   int // nodes, implied folders included
}

func newTree(maxEntries int) *tree {
	return &tree{
		byPath: map[string]*item{},
		byCase: map[string]string{},
		kids:   map[string][]*item{},
		// A path of 128 levels implies 127 folders: without a cap of its own,
		// 100,000 entries could make 12 million nodes.
		most: 2*maxEntries + defaultMaxDepth,
	}
}

// add puts one entry into the tree with the folders above it (rules ).
func (t *tree) add(it *item) error {
	if err := t.addParents(it.Path); err != nil {
		return err
	}
	old := t.byPath[it.Path]
	if old == nil {
		return t.put(it)
	}
	if old.Mode.IsDir() && it.Mode.IsDir() {
		// The same folder twice says the same thing twice; honest tools do it.
		old.Implied = old.Implied && it.Implied
		return nil
	}
	if old.Mode.IsDir() || it.Mode.IsDir() {
		return refuseEntry(ruleAmbiguous, it.Path, hintRezip, "the name is a file and a folder at once")
	}
	return refuseEntry(ruleAmbiguous, it.Path, hintRezip, "the name occurs twice")
}

func (t *tree) addParents(name string) error {
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		dir := name[:i]
		old := t.byPath[dir]
		if old == nil {
			if err := t.put(&item{Entry: Entry{Path: dir, Mode: fs.ModeDir | 0o755, Implied: true}}); err != nil {
				return err
			}
			continue
		}
		if old.Mode&fs.ModeSymlink != 0 {
			return refuseEntry(ruleLink, name, hintLinks, "it would be written through the link %s", quoteName(dir))
		}
		if !old.Mode.IsDir() {
			return refuseEntry(ruleAmbiguous, name, hintRezip, "it lies under %s, which is a file", quoteName(dir))
		}
	}
	return nil
}

func (t *tree) put(it *item) error {
	if len(t.items) >= t.most {
		return tooLarge("more than %d files and folders", t.most)
	}
	key := caseKey(it.Path)
	if other, ok := t.byCase[key]; ok {
		return refuseEntry(ruleAmbiguous, it.Path, "rename one of the two: they are one file on Windows and macOS",
			"the name differs from %s in upper and lower case only", quoteName(other))
	}
	t.byCase[key] = it.Path
	t.byPath[it.Path] = it
	t.items = append(t.items, it)
	return nil
}

// finish sorts the tree, fills the folders and checks where links lead.
func (t *tree) finish(ctx context.Context) error {
	t.byCase = nil
	sort.Slice(t.items, func(i, j int) bool { return t.items[i].Path < t.items[j].Path })
	for _, it := range t.items {
		dir := parentOf(it.Path)
		t.kids[dir] = append(t.kids[dir], it)
	}
	budget := maxSteps
	for _, it := range t.items {
		if it.Mode&fs.ModeSymlink == 0 {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		budget -= strings.Count(it.Path, "/") + strings.Count(it.LinkTarget, "/") + 2
		if budget < 0 {
			return tooLarge("its links have more than %d components together", maxSteps)
		}
		if _, how := t.resolve(it.Path); how != "" {
			return refuseEntry(ruleLink, it.Path, hintLinks, "the link to %s %s", quoteName(it.LinkTarget), how)
		}
	}
	return nil
}

func parentOf(name string) string {
	dir := path.Dir(name)
	if dir == "." {
		return ""
	}
	return dir
}

func (t *tree) children(dir string) []*item { return t.kids[dir] }

const (
	// maxHops is Linux's own limit of links in one look-up (path_resolution(7)).
	maxHops = 40
	// maxSteps bounds the work of checking all links together: 100,000 links of
	// 20 components each take half of it.
	maxSteps = 4_000_000
)

// walk is one look-up: where it stands and what is left to walk.
type walk struct {
	at    string
	todo  []string
	steps int
}

// resolve walks name as the kernel would, link by link, and returns the path
// where it ends ("" is the root). how is empty, or says what is wrong. Components
// that do not exist are walked as folders, so that a link which dangles today
// cannot lead out once the build has made its target.
func (t *tree) resolve(name string) (end, how string) {
	w := walk{todo: strings.Split(name, "/")}
	for hops := 0; len(w.todo) > 0; w.steps++ {
		part := w.todo[0]
		w.todo = w.todo[1:]
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			if w.at == "" {
				return "", "leads out of the archive"
			}
			w.at = parentOf(w.at)
			continue
		}
		here := path.Join(w.at, part)
		it := t.byPath[here]
		if it == nil || it.Mode&fs.ModeSymlink == 0 {
			w.at = here
		} else {
			hops++
			w.todo = append(strings.Split(it.LinkTarget, "/"), w.todo...)
		}
		if hops > maxHops || len(w.at) > maxPathBytes || w.steps > maxPathBytes {
			return "", "goes through too many links or in a circle"
		}
	}
	return w.at, ""
}
