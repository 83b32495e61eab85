package source

import (
	"fmt"
	"sort"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Catalog is what can be provided: exact versions, oldest first. builder/base
// reads it from the registry and keeps it, so that builds are stable.
type Catalog struct {
	Node    []string `json:"node"`    // "24.21.0"
	NodeLTS []int    `json:"nodeLTS"` // majors with long-term support, oldest first
	// Tools holds package managers by npm package name, oldest first.
	Tools map[string][]ToolVersion `json:"tools"`
}

// ToolVersion is one version of a package manager.
type ToolVersion struct {
	Version string `json:"version"`
	Node    string `json:"node,omitempty"` // range of Node versions it runs on; "" = any
}

// Tool returns the newest version of an npm package inside the range that runs on
// this Node, "" if there is none.
func (c Catalog) Tool(name, wanted, node string) string {
	list := c.Tools[name]
	for i := len(list) - 1; i >= 0; i-- {
		if fits(list[i].Version, wanted) && (list[i].Node == "" || fits(node, list[i].Node)) {
			return list[i].Version
		}
	}
	return ""
}

func fits(version, wanted string) bool { return Newest([]string{version}, wanted) != "" }

// majors lists the distinct majors, newest last.
func majors(versions []string) []string {
	var out []string
	for _, v := range versions {
		major, _, _ := strings.Cut(v, ".")
		if len(out) == 0 || out[len(out)-1] != major {
			out = append(out, major)
		}
	}
	return out
}

// Newest returns the highest version that satisfies the range in npm's syntax, ""
// if none does or the range cannot be read.
func Newest(versions []string, wanted string) string {
	c, err := semver.NewConstraint(wanted)
	if err != nil {
		return ""
	}
	for i := len(versions) - 1; i >= 0; i-- {
		if v, err := semver.NewVersion(versions[i]); err == nil && c.Check(v) {
			return versions[i]
		}
	}
	return ""
}

// SortVersions orders exact versions, oldest first, and drops what is no release.
func SortVersions(versions []string) []string {
	var parsed []*semver.Version
	for _, s := range versions {
		if v, err := semver.StrictNewVersion(s); err == nil && v.Prerelease() == "" && v.Metadata() == "" {
			parsed = append(parsed, v)
		}
	}
	sort.Sort(semver.Collection(parsed))
	out := make([]string, len(parsed))
	for i, v := range parsed {
		out[i] = v.String()
	}
	return out
}

// NodeVersion picks for a range: the newest long-term-support release inside it,
// else the newest of all.
func (c Catalog) NodeVersion(wanted string) string {
	for i := len(c.NodeLTS) - 1; i >= 0; i-- {
		if v := Newest(c.NodeMajor(c.NodeLTS[i]), wanted); v != "" {
			return v
		}
	}
	return Newest(c.Node, wanted)
}

// NodeMajor lists the versions of one major, oldest first.
func (c Catalog) NodeMajor(major int) []string {
	prefix := fmt.Sprintf("%d.", major)
	var out []string
	for _, v := range c.Node {
		if strings.HasPrefix(v, prefix) {
			out = append(out, v)
		}
	}
	return out
}

// NodeOffer says in one line what there is.
func (c Catalog) NodeOffer() string {
	var lts []string
	for _, m := range c.NodeLTS {
		lts = append(lts, fmt.Sprint(m))
	}
	return fmt.Sprintf("node %s (long-term support: %s)", strings.Join(majors(c.Node), ", "), strings.Join(lts, ", "))
}
