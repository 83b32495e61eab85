// Command versitygw is the S3 gateway on a folder that Slipway supervises:
// versitygw's own server and posix backend behind a backend that makes every
// write durable before it is answered. The posix backend of v1.8.0 never calls
// fsync, so a power cut would lose objects whose upload was acknowledged.
//
// It understands the options of the original that Slipway uses, takes the root
// account from ROOT_ACCESS_KEY and ROOT_SECRET_KEY, and starts as
//
//	versitygw --port 127.0.0.1:7070 posix DIR
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

// version is set by the build to the pinned version of versitygw.
var version = "unknown"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "versitygw:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("versitygw", flag.ContinueOnError)
	port := flags.String("port", "127.0.0.1:7070", "address to listen on")
	region := flags.String("region", "us-east-1", "region told to clients")
	health := flags.String("health", "", "path of an unauthenticated health check")
	access := flags.String("access", os.Getenv("ROOT_ACCESS_KEY"), "access key of the root account")
	secret := flags.String("secret", os.Getenv("ROOT_SECRET_KEY"), "secret key of the root account")
	quiet := flags.Bool("quiet", false, "do not log every request")
	showVersion := flags.Bool("version", false, "print the version")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *showVersion {
		fmt.Println("versitygw", version, "(durable writes)")
		return nil
	}
	if flags.NArg() != 2 || flags.Arg(0) != "posix" {
		return errors.New("usage: versitygw [options] posix DIR")
	}
	be, err := open(flags.Arg(1))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return embedgw.RunVersityGW(ctx, be, &embedgw.Config{
		RootUserAccess: *access, RootUserSecret: *secret, Region: *region,
		Ports: []string{*port}, HealthPath: *health, Quiet: *quiet, KeepAlive: true,
		// One user, our server: far below the defaults, to bound memory.
		MaxConnections: 4096, MaxRequests: 2048, MultipartMaxParts: 10000,
		Version: version,
	})
}

func open(dir string) (*durable, error) {
	dir, err := filepath.Abs(dir) // the backend changes the working folder
	if err != nil {
		return nil, err
	}
	if err := (meta.XattrMeta{}).Test(dir); err != nil {
		return nil, fmt.Errorf("%s keeps no extended attributes, which object metadata needs: %w", dir, err)
	}
	opts := posix.PosixOpts{Concurrency: 512, CopyObjectThreshold: 5 << 30}
	opts.SetNewDirPerm(0o700)
	opts.SetNewFilePerm(0o600)
	be, err := posix.New(dir, meta.XattrMeta{}, opts)
	if err != nil {
		return nil, fmt.Errorf("open folder %s: %w", dir, err)
	}
	return &durable{Posix: be, root: dir}, nil
}
