package engine

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/slipway-paas/slipway/internal/supervise"
)

const s3Region = "us-east-1"

// s3Keys is the content of DATA/s3/credentials.
type s3Keys struct {
	Access string `json:"accessKey"`
	Secret string `json:"secretKey"`
}

func (e *Engine) addS3() error {
	if e.cfg.S3Endpoint != "" {
		return e.useS3(e.cfg.S3Endpoint)
	}
	for _, d := range []string{e.dir("s3"), e.dir("s3", "data")} {
		if err := makeDir(d, 0o700); err != nil {
			return err
		}
	}
	keys, err := loadKeys(e.dir("s3", "credentials"))
	if err != nil {
		return err
	}
	port, err := e.s3Port()
	if err != nil {
		return err
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	e.addr.S3Endpoint, e.addr.S3AccessKey, e.addr.S3SecretKey = addr, keys.Access, keys.Secret
	ready, err := s3Ready(e.addr)
	if err != nil {
		return err
	}
	c, err := e.newComponent(supervise.Process{
		Name: "s3", Path: filepath.Join(e.cfg.EngineDir, "versitygw"),
		Args: []string{"--port", addr, "--region", s3Region, "--quiet", "posix", e.dir("s3", "data")},
		// By environment: arguments can be read by everyone on the machine.
		Env:   []string{e.path(), "ROOT_ACCESS_KEY=" + keys.Access, "ROOT_SECRET_KEY=" + keys.Secret},
		Ready: ready,
	})
	if err != nil {
		return err
	}
	e.components = append(e.components, c)
	return nil
}

// useS3 takes a configured endpoint: "host:port" or "http(s)://host:port".
func (e *Engine) useS3(endpoint string) error {
	e.addr.S3Endpoint = endpoint
	if strings.Contains(endpoint, "://") {
		u, err := url.Parse(endpoint)
		if err != nil || u.Host == "" {
			return fmt.Errorf("S3 endpoint %q is not an address; write host:port or https://host", endpoint)
		}
		e.addr.S3Endpoint, e.addr.S3Secure = u.Host, u.Scheme == "https"
	}
	e.addr.S3AccessKey, e.addr.S3SecretKey = e.cfg.S3AccessKey, e.cfg.S3SecretKey
	ready, err := s3Ready(e.addr)
	if err != nil {
		return err
	}
	e.components = append(e.components, &component{name: "s3", address: endpoint, ready: ready})
	return nil
}

// s3Ready asks with our key, so that a stranger on the port does not pass.
func s3Ready(a Addresses) (func(context.Context) error, error) {
	client, err := minio.New(a.S3Endpoint, &minio.Options{
		Creds: credentials.NewStaticV4(a.S3AccessKey, a.S3SecretKey, ""), Secure: a.S3Secure, Region: s3Region, MaxRetries: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("S3 endpoint %s: %w", a.S3Endpoint, err)
	}
	return func(ctx context.Context) error {
		_, err := client.ListBuckets(ctx)
		return err
	}, nil
}

// loadKeys reads the root account, or makes it once.
func loadKeys(file string) (s3Keys, error) {
	var keys s3Keys
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		keys = s3Keys{Access: "slipway", Secret: rand.Text() + rand.Text()}
		if data, err = json.Marshal(keys); err != nil {
			return keys, err
		}
		return keys, writeFile(file, data, 0o600)
	}
	if err != nil {
		return keys, err
	}
	if err := json.Unmarshal(data, &keys); err != nil {
		return keys, fmt.Errorf("read %s: %w", file, err)
	}
	return keys, nil
}

// s3Port returns the port chosen earlier; a new one if there is none or, with
// our gateway not running, somebody else took it.
func (e *Engine) s3Port() (int, error) {
	file := e.dir("s3", "port")
	data, err := os.ReadFile(file)
	if err == nil {
		port, err := strconv.Atoi(strings.TrimSpace(string(data)))
		if err == nil && (supervise.FindLeftover(e.dir("run", "s3.pid"), e.cfg.ID+"/s3") != 0 || isFree(port)) {
			return port, nil
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	return port, writeFile(file, []byte(strconv.Itoa(port)+"\n"), 0o600)
}

func isFree(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	l.Close()
	return true
}
