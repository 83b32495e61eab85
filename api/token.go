package api

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"math/big"
	"strings"
)

// A token is "slp_", 43 base62 digits of 32 random bytes and 6 base62 digits of
// the CRC-32 of all before: scanners find it by the prefix, and a mistyped one
// is refused without asking the database.
const (
	tokenPrefix = "slp_"
	randDigits  = 43 // 62^43 > 2^256
	crcDigits   = 6  // 62^6 > 2^32
)

// NewToken makes a token of 256 random bits. Show it once and keep the hash.
func NewToken() (token, hash string) {
	var b [32]byte
	rand.Read(b[:]) // never fails since Go 1.24
	body := tokenPrefix + base62(new(big.Int).SetBytes(b[:]), randDigits)
	token = body + checksum(body)
	return token, HashToken(token)
}

// HashToken returns what the Store keeps of a token: hex of its SHA-256. The
// token is random, so neither salt nor stretching would add anything.
func HashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// wellFormed reports whether the token could be one of ours.
func wellFormed(token string) bool {
	if len(token) != len(tokenPrefix)+randDigits+crcDigits || !strings.HasPrefix(token, tokenPrefix) {
		return false
	}
	body := token[:len(token)-crcDigits]
	return checksum(body) == token[len(body):]
}

func checksum(s string) string {
	return base62(new(big.Int).SetUint64(uint64(crc32.ChecksumIEEE([]byte(s)))), crcDigits)
}

// base62 writes n with leading zeros. big.Int's digits are 0-9a-zA-Z.
func base62(n *big.Int, width int) string {
	return fmt.Sprintf("%0*s", width, n.Text(62))
}
