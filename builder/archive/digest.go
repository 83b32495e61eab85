package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// TreeDigest is the SHA-256 ("sha256:<hex>") over path, type, executable bits,
// size, checksum and link target of every entry that match accepts (nil = all), in
// the order of paths. Times, owners and how the archive was packed do not count.
//
// It rests on CRC-32: good as a key for one app's own content, not for anything
// that is shared between tenants.
func (a *Archive) TreeDigest(match func(path string) bool) string {
	h := sha256.New()
	for _, it := range a.tree.items {
		if match != nil && !match(it.Path) {
			continue
		}
		fmt.Fprintf(h, "%q %s %o %d %08x %q\n", it.Path, it.Mode.Type(), it.Mode&0o111, it.Size, it.CRC32, it.LinkTarget)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}
