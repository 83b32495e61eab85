package seal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var here = Place{Org: "default", App: "a123", Version: 3, Name: "DB_PASSWORD"}

func newTestKeeper(t *testing.T) *Keeper {
	t.Helper()
	k := New(filepath.Join(t.TempDir(), "secret.key"))
	if err := k.Unlock(nil); err != nil {
		t.Fatal(err)
	}
	return k
}

func mustSeal(t *testing.T, k *Keeper, value string) string {
	t.Helper()
	sealed, err := k.Seal(here, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestKeeper_RoundTrip_AlsoAfterReload(t *testing.T) {
	k := newTestKeeper(t)
	for _, value := range []string{"", "x", "päss\x00word", strings.Repeat("long", 10000)} {
		sealed := mustSeal(t, k, value)
		again := New(k.path)
		if err := again.Unlock([]string{sealed[:PrefixLen]}); err != nil {
			t.Fatal(err)
		}
		got, err := again.Open(here, sealed)
		if err != nil || string(got) != value {
			t.Fatalf("Open = %q, %v; want %q", got, err, value)
		}
	}
}

func TestKeeper_SameValueTwice_LooksDifferent(t *testing.T) {
	k := newTestKeeper(t)
	if a, b := mustSeal(t, k, "same"), mustSeal(t, k, "same"); a[PrefixLen:] == b[PrefixLen:] {
		t.Fatalf("two seals of one value are equal: %s", a)
	}
}

func TestOpen_AnotherPlace_IsRefused(t *testing.T) {
	k := newTestKeeper(t)
	sealed := mustSeal(t, k, "v")
	for name, p := range map[string]Place{
		"org":              {"other", here.App, here.Version, here.Name},
		"app":              {here.Org, "a124", here.Version, here.Name},
		"version":          {here.Org, here.App, 4, here.Name},
		"name":             {here.Org, here.App, here.Version, "OTHER"},
		"shifted boundary": {here.Org + "a", "123", here.Version, here.Name},
	} {
		if v, err := k.Open(p, sealed); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: Open = %q, %v; want ErrRefused", name, v, err)
		}
	}
}

func TestOpen_AnyByteChanged_IsRefused(t *testing.T) {
	k := newTestKeeper(t)
	sealed := mustSeal(t, k, "value")
	for i := range sealed {
		b := []byte(sealed)
		b[i] ^= 1
		v, err := k.Open(here, string(b))
		// The last base64 digit of a part has spare bits; then the bytes are the same.
		if err == nil && !bytes.Equal(v, []byte("value")) {
			t.Errorf("byte %d changed: opened as %q", i, v)
		}
		if err == nil && i <= PrefixLen {
			t.Errorf("byte %d of the prefix changed: still opened", i)
		}
	}
	for _, text := range []string{"", "s1", "s1.x.y", sealed + ".z", "plain", sealed[:len(sealed)-4]} {
		if _, err := k.Open(here, text); err == nil {
			t.Errorf("%q opened", text)
		}
	}
}

func TestUnlock_FirstTime_MakesPrivateFile(t *testing.T) {
	k := newTestKeeper(t)
	info, err := os.Stat(k.path)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != 2*keySize+1 {
		t.Fatalf("stat = %v, %v; want 0600 and %d bytes", info, err, 2*keySize+1)
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(k.path), ".secret*"))
	if len(left) != 0 {
		t.Fatalf("left behind: %v", left)
	}
}

func TestUnlock_Concurrently_AllGetOneKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret.key")
	ids := make([]string, 20)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			k := New(path)
			if err := k.Unlock(nil); err != nil {
				t.Error(err)
			}
			ids[i] = k.id
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || id == "" {
			t.Fatalf("keys differ: %v", ids)
		}
	}
}

func TestUnlock_BadKeyFile_SaysWhatToDo(t *testing.T) {
	prefix := []string{mustSeal(t, newTestKeeper(t), "v")[:PrefixLen]}
	hex64 := strings.Repeat("ab", keySize)
	for _, c := range []struct {
		name, content string
		mode          os.FileMode
		prefixes      []string
		want          string
	}{
		{"missing but secrets stored", "", 0, prefix, "is missing, but the database holds secrets"},
		{"another key", hex64, 0o600, prefix, "put the right key file back"},
		{"readable by others", hex64, 0o644, nil, "chmod 600"},
		{"short", "abcd", 0o600, nil, "must hold 64 hex digits"},
		{"not hex", strings.Repeat("zz", keySize), 0o600, nil, "must hold 64 hex digits"},
		{"empty", "", 0o600, nil, "must hold 64 hex digits"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := New(filepath.Join(t.TempDir(), "secret.key"))
			if c.mode != 0 {
				if err := os.WriteFile(k.path, []byte(c.content), c.mode); err != nil {
					t.Fatal(err)
				}
			}
			err := k.Unlock(c.prefixes)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("Unlock = %v; want %q", err, c.want)
			}
			if _, err := k.Seal(here, nil); !errors.Is(err, ErrLocked) {
				t.Fatalf("Seal after a refused Unlock = %v; want ErrLocked", err)
			}
			if _, err := os.Stat(k.path); c.mode == 0 && err == nil {
				t.Fatal("a new key was made over a lost one")
			}
		})
	}
}
