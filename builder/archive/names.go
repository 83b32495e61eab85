package archive

import (
	"path"
	"strings"
	"unicode/utf8"
)

const (
	maxPathBytes      = 4096 // PATH_MAX
	maxComponentBytes = 255  // NAME_MAX
)

// cleanName checks a name as it is written in the container (rule A-1) and
// returns the path that it stands for, "" for the root itself ("./" in many tars).
// One leading "./" and one trailing slash are how honest tools write names;
// everything else that needs cleaning is refused, for readers clean differently.
//
// Narrowed against the letter of A-1, in favour of A-7: a trailing dot or space
// is fine on Linux and honest ("Notes etc."), so only components of nothing but
// dots and spaces are refused. Non-ASCII names without the UTF-8 flag are
// accepted when they are valid UTF-8: Info-ZIP and macOS write them so.
func cleanName(raw string, maxDepth int) (string, error) {
	if raw == "" {
		return "", refuse(ruleName, hintRezip, "an entry has an empty name")
	}
	if len(raw) > maxPathBytes {
		return "", refuseEntry(ruleName, raw, hintRezip, "the name has %d bytes, %d at most", len(raw), maxPathBytes)
	}
	if err := checkCharacters(raw); err != nil {
		return "", err
	}
	if raw[0] == '/' {
		return "", refuseEntry(ruleName, raw, hintRezip, "the name is absolute")
	}
	if len(raw) >= 2 && raw[1] == ':' && isLetter(raw[0]) {
		return "", refuseEntry(ruleName, raw, hintRezip, "the name starts with a drive letter")
	}
	name := raw
	if name == "." || name == "./" {
		return "", nil
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
	if err := checkComponents(raw, name, maxDepth); err != nil {
		return "", err
	}
	return name, nil
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func checkCharacters(raw string) error {
	if !utf8.ValidString(raw) {
		return refuseEntry(ruleName, raw,
			"zip it with a tool that writes UTF-8: zip -r on Linux or macOS, 7-Zip with -mcu=on, or slipway deploy",
			"the name is not valid UTF-8")
	}
	base := strings.TrimSuffix(raw, "/")
	for _, c := range raw {
		switch {
		case c == '\\':
			return refuseEntry(ruleName, raw, "zip it with a tool that writes forward slashes: Windows 11, 7-Zip, tar -a -cf, or slipway deploy",
				"the name holds a backslash")
		case c == '\r' && strings.HasSuffix(base, "Icon\r") && strings.Count(raw, "\r") == 1:
			// macOS: a folder's icon; dropped from the tree.
		case c < 0x20 || c >= 0x7f && c < 0xa0:
			return refuseEntry(ruleName, raw, "rename the file and make the archive again", "the name holds the control character U+%04X", c)
		}
	}
	return nil
}

func checkComponents(raw, name string, maxDepth int) error {
	depth := 0
	for part := range strings.SplitSeq(name, "/") {
		depth++
		switch {
		case part == "":
			return refuseEntry(ruleName, raw, hintRezip, "the name has an empty component")
		case part == "..":
			return refuseEntry(ruleName, raw, hintRezip, `".." can lead out of the archive`)
		case strings.Trim(part, ". ") == "":
			return refuseEntry(ruleName, raw, hintRezip, "the component %q is only dots and spaces", part)
		case len(part) > maxComponentBytes:
			return refuseEntry(ruleName, raw, hintRezip, "a component has %d bytes, %d at most", len(part), maxComponentBytes)
		}
	}
	if depth > maxDepth {
		return refuseEntry(ruleName, raw, hintSmaller, "the path has %d levels, %d at most", depth, maxDepth)
	}
	return nil
}

// checkTarget checks the text of a link; where it leads is the tree's business.
func checkTarget(name, target string) error {
	switch {
	case target == "":
		return refuseEntry(ruleLink, name, hintLinks, "the link is empty")
	case len(target) > maxPathBytes:
		return refuseEntry(ruleLink, name, hintLinks, "the link's target has %d bytes, %d at most", len(target), maxPathBytes)
	case target[0] == '/':
		return refuseEntry(ruleLink, name, hintLinks, "the link is absolute (to %s)", quoteName(target))
	case strings.ContainsAny(target, "\\\x00\n\r") || !utf8.ValidString(target):
		return refuseEntry(ruleLink, name, hintLinks, "the link's target %s holds characters that are not allowed", quoteName(target))
	}
	return nil
}

// isMacJunk reports names that only macOS understands.
func isMacJunk(name string) bool {
	base := path.Base(name)
	return base == ".DS_Store" || base == "Icon\r" || name == "__MACOSX" || strings.HasPrefix(name, "__MACOSX/")
}

// caseKey maps names that a case-insensitive file system takes for one to one
// key. Upper before lower also joins letters with two lower-case forms (ſ, s).
func caseKey(name string) string { return strings.ToLower(strings.ToUpper(name)) }
