// Package seal encrypts secrets before they reach the database, with a master
// key that is a file outside it. It knows nothing of apps or tables beyond the
// Place that a value is bound to, and imports the standard library only.
//
// Each value has a key of its own (AES-256-GCM), which the master key wraps: the
// wrapped key and the value stand side by side in one text,
//
//	s1.<key ID>.<wrapped key>.<value>
//
// so that a later rotation re-wraps 32 bytes and leaves the values alone. Both
// layers authenticate the Place, so a text copied to another row does not open.
//
// Start reading at Keeper.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
)

const (
	format      = "s1"
	keySize     = 32
	keyIDDigits = 8
	// PrefixLen is the length of "s1.<key ID>", with which every sealed text begins.
	PrefixLen = len(format) + 1 + keyIDDigits
)

// Errors of Open.
var (
	// ErrLocked: Unlock has not succeeded yet.
	ErrLocked = errors.New("the master key is not loaded")
	// ErrRefused: the text was altered, or belongs to another place.
	ErrRefused = errors.New("sealed value was altered or belongs to another place")
)

// Place says where a value lives; it opens nowhere else.
type Place struct {
	Org     string
	App     string // ID, not the name: names are reused
	Version int    // of the configuration
	Name    string
}

// Keeper seals and opens values with the master key in one file. It is safe for
// concurrent use.
type Keeper struct {
	path string

	mu     sync.RWMutex
	id     string      // guarded by mu; "" until Unlock
	master cipher.AEAD // guarded by mu
}

// New returns a Keeper for the key file at path. Nothing is read until Unlock.
func New(path string) *Keeper { return &Keeper{path: path} }

// Unlock loads the key. prefixes are those (PrefixLen bytes) of the values that
// are stored already. With none, an absent key file is made; otherwise the file
// must be there and hold the key that sealed them, and the error says what to
// restore. Calling it again reloads the file.
func (k *Keeper) Unlock(prefixes []string) error {
	key, err := loadKey(k.path, len(prefixes) == 0)
	if err != nil {
		return err
	}
	id := keyID(key)
	for _, p := range prefixes {
		if want := strings.TrimPrefix(p, format+"."); want != id {
			return fmt.Errorf("stored secrets were sealed with master key %s, but %s holds key %s: put the right key file back, or restore the database that belongs to this one", want, k.path, id)
		}
	}
	master, err := newAEAD(key)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.id, k.master = id, master
	return nil
}

// Seal encrypts value for place.
func (k *Keeper) Seal(place Place, value []byte) (string, error) {
	id, master, err := k.current()
	if err != nil {
		return "", err
	}
	key := make([]byte, keySize)
	rand.Read(key) // never fails (crypto/rand)
	own, err := newAEAD(key)
	if err != nil {
		return "", err
	}
	bound := place.bytes(id)
	return strings.Join([]string{format, id, encrypt(master, key, bound), encrypt(own, value, bound)}, "."), nil
}

// Open decrypts what Seal made for the same place. Errors: ErrLocked, ErrRefused,
// or another key's ID in the message.
func (k *Keeper) Open(place Place, sealed string) ([]byte, error) {
	id, master, err := k.current()
	if err != nil {
		return nil, err
	}
	part := strings.Split(sealed, ".")
	if len(part) != 4 || part[0] != format {
		return nil, fmt.Errorf("%w: unknown format", ErrRefused)
	}
	if part[1] != id {
		return nil, fmt.Errorf("sealed with master key %q, but %s holds %s", part[1], k.path, id)
	}
	bound := place.bytes(id)
	key, err := decrypt(master, part[2], bound)
	if err != nil {
		return nil, err
	}
	own, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	return decrypt(own, part[3], bound)
}

func (k *Keeper) current() (string, cipher.AEAD, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.master == nil {
		return "", nil, ErrLocked
	}
	return k.id, k.master, nil
}

// bytes is the associated data: every part with its length before it, so that no
// two places give the same bytes.
func (p Place) bytes(keyID string) []byte {
	var b []byte
	for _, s := range []string{format, keyID, p.Org, p.App, p.Name} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	return binary.BigEndian.AppendUint64(b, uint64(p.Version))
}

// keyID names a key without telling anything of it.
func keyID(key []byte) string {
	sum := sha256.Sum256(append([]byte("slipway master key\x00"), key...))
	return hex.EncodeToString(sum[:])[:keyIDDigits]
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("use key: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func encrypt(a cipher.AEAD, value, bound []byte) string {
	return base64.RawURLEncoding.EncodeToString(a.Seal(nil, nil, value, bound))
}

func decrypt(a cipher.AEAD, text string, bound []byte) ([]byte, error) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	value, err := a.Open(nil, nil, raw, bound)
	if err != nil {
		return nil, ErrRefused
	}
	return value, nil
}
