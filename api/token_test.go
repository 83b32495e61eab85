package api

import (
	"regexp"
	"testing"
)

func TestToken_HasPrefixLengthAndChecksum(t *testing.T) {
	form := regexp.MustCompile(`^slp_[0-9A-Za-z]{49}$`)
	seen := map[string]bool{}
	for range 1000 {
		token, hash := NewToken()
		if !form.MatchString(token) || !wellFormed(token) || len(hash) != 64 || hash != HashToken(token) || seen[token] {
			t.Fatalf("token %q, hash %q", token, hash)
		}
		seen[token] = true
		for i := len(tokenPrefix); i < len(token); i++ { // one wrong character anywhere
			other := byte('0')
			if token[i] == other {
				other = '1'
			}
			if wellFormed(token[:i] + string(other) + token[i+1:]) {
				t.Fatalf("token %q with a wrong character at %d passes", token, i)
			}
		}
	}
	for _, s := range []string{"", "slp_", "slp_" + string(make([]byte, 49)), "xxx_" + string(make([]byte, 49))} {
		if wellFormed(s) {
			t.Errorf("%q passes", s)
		}
	}
}

func TestHolds_RemoveOnlyWhatNobodyHolds(t *testing.T) {
	h := holds{n: map[string]int{}}
	removed := 0
	remove := func() error { removed++; return nil }
	h.hold("k")
	h.hold("k")
	h.release("k")
	if err := h.ifFree("k", remove); err != nil || removed != 0 {
		t.Fatalf("removed %d while it is held, %v", removed, err)
	}
	h.release("k")
	if err := h.ifFree("k", remove); err != nil || removed != 1 || len(h.n) != 0 {
		t.Fatalf("removed %d, held %v, %v", removed, h.n, err)
	}
}
