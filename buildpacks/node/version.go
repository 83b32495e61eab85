package node

import (
	"strings"

	"github.com/slipway-paas/slipway/buildpacks/plan"
	"github.com/slipway-paas/slipway/buildpacks/source"
)

// codenames of the long-term-support lines, as written in .nvmrc ("lts/iron").
var codenames = map[string]string{"argon": "4", "boron": "6", "carbon": "8", "dubnium": "10", "erbium": "12", "fermium": "14",
	"gallium": "16", "hydrogen": "18", "iron": "20", "jod": "22", "krypton": "24"}

// version decides which Node runs.
func (n *planner) version() error {
	wanted, why, err := n.wantedVersion()
	if err != nil {
		return err
	}
	v := n.src.Catalog.NodeVersion(wanted)
	if v == "" {
		return source.Failf(source.FailVersion, "there is "+n.src.Catalog.NodeOffer(), "there is no Node.js that fits %s", why)
	}
	n.p.Runtime = plan.Package{Name: "node", Version: v}
	n.p.Decide("node", v, why)
	return nil
}

func (n *planner) wantedVersion() (wanted, why string, err error) {
	if v := n.src.Manifest.MajorVersion; v != "" {
		return v, `runtime.majorVersion "` + v + `" in ` + n.src.ManifestFrom, nil
	}
	if v := strings.TrimSpace(n.pkg.Engines["node"]); v != "" {
		return v, `engines.node "` + v + `" in package.json`, nil
	}
	for _, file := range []string{".nvmrc", ".node-version"} {
		text, err := n.src.ReadFile(file)
		if err != nil {
			return "", "", err
		}
		line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
		if line = strings.TrimSpace(line); line != "" {
			return alias(line), `"` + line + `" in ` + file, nil
		}
	}
	return "*", "newest with long-term support; nothing asks for another", nil
}

// alias turns the words of nvm into a range.
func alias(v string) string {
	v = strings.ToLower(v)
	switch v {
	case "lts/*", "lts", "lts/", "stable", "node", "latest", "current":
		return "*"
	}
	if name, ok := strings.CutPrefix(v, "lts/"); ok && codenames[name] != "" {
		return codenames[name]
	}
	return strings.TrimPrefix(v, "v")
}
