#!/bin/sh
# Builds the daemons that Slipway supervises, at the versions pinned in go.mod,
# from the Go module proxy into OUTDIR (default bin/engine).
#
#   deploy/engine/build.sh [-test] [OUTDIR]
#
# -test also builds OUTDIR/test/minio, a second S3 server for the blob tests.
# What is already there at the pinned version is skipped.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
test=no
if [ "${1:-}" = -test ] || [ "${1:-}" = --test ]; then test=yes; shift; fi
out=${1:-$here/../../bin/engine}
mkdir -p "$out/cni" "$out/.stamp"
out=$(cd "$out" && pwd)
go=$(go env GOVERSION) || { echo "engine: go not found; run deploy/install.sh and install Go 1.26 or newer" >&2; exit 1; }
here_hash=$(cd "$here" && cat go.mod go.sum build.sh versitygw/*.go | sha256sum | cut -c1-16)

# pinned MODULE: its version in the go.mod of the current folder.
pinned() { awk -v m="$1" '$1 == m || ($1 == "require" && $2 == m) { print $NF == "indirect" ? $(NF-2) : $NF; exit }' go.mod; }

# build NAME PACKAGE CGO TAGS LDFLAGS
build() {
	stamp="$out/.stamp/$(echo "$1" | tr / -)"
	want="$go $hash"
	if [ -x "$out/$1" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then
		skipped=$((skipped + 1))
		return
	fi
	begin=$(date +%s)
	printf 'engine: %-26s' "$1"
	mkdir -p "$(dirname "$out/$1")"
	# A running daemon keeps its old file: the new one takes the name.
	CGO_ENABLED=$3 go build -trimpath -buildvcs=false -tags "$4" -ldflags "-s -w $5" -o "$out/$1.new" "$2"
	mv "$out/$1.new" "$out/$1"
	echo "$want" >"$stamp"
	echo "$(($(date +%s) - begin)) s"
}

skipped=0
hash=$here_hash
cd "$here"
containerd=$(pinned github.com/containerd/containerd/v2)
buildkit=$(pinned github.com/moby/buildkit)
cni=$(pinned github.com/containernetworking/plugins)
s3=$(pinned github.com/versity/versitygw)
static="netgo osusergo"

v="-X github.com/containerd/containerd/v2/version.Version=$containerd"
# No CRI: nothing but Slipway's own clients speaks to this containerd.
build containerd github.com/containerd/containerd/v2/cmd/containerd 0 "$static no_cri" "$v"
build containerd-shim-runc-v2 github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2 0 "$static" "$v"
build ctr github.com/containerd/containerd/v2/cmd/ctr 0 "$static" "$v"
# runc carries its own version; without the seccomp tag containers with a filter do not start.
build runc github.com/opencontainers/runc 1 "$static seccomp" "-extldflags -static"
v="-X github.com/moby/buildkit/version.Version=$buildkit"
build buildkitd github.com/moby/buildkit/cmd/buildkitd 0 "$static" "$v"
build buildctl github.com/moby/buildkit/cmd/buildctl 0 "$static" "$v"
v="-X github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=$cni"
for plugin in main/bridge main/ptp main/loopback ipam/host-local; do
	build "cni/${plugin#*/}" "github.com/containernetworking/plugins/plugins/$plugin" 0 "$static" "$v"
done
build versitygw ./versitygw 0 "$static" "-X main.version=$s3"

if [ $test = yes ]; then
	cd "$here/test"
	hash=$(cat go.mod go.sum ../build.sh | sha256sum | cut -c1-16)
	minio=$(pinned github.com/minio/minio)
	build test/minio github.com/minio/minio 0 "$static" "-X github.com/minio/minio/cmd.ReleaseTag=$minio"
fi
[ $skipped -eq 0 ] || echo "engine: $skipped already built"
