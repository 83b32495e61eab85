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

# current NAME: whether OUTDIR/NAME was built from these versions by this Go.
current() {
	stamp=$out/.stamp/$(echo "$1" | tr / -)
	[ -x "$out/$1" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$go $hash" ]
}

# build NAME PACKAGE CGO TAGS LDFLAGS
build() {
	if current "$1"; then
		skipped=$((skipped + 1))
		return
	fi
	begin=$(date +%s)
	printf 'engine: %-26s' "$1"
	mkdir -p "$(dirname "$out/$1")"
	# A running daemon keeps its old file: the new one takes the name.
	CGO_ENABLED=$3 go build -trimpath -buildvcs=false -tags "$4" -ldflags "-s -w $5" -o "$out/$1.new" "$2"
	mv "$out/$1.new" "$out/$1"
	echo "$go $hash" >"$stamp"
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
# buildkitd hands every step its trace socket, whatever the configuration says;
# a step has no business there (reliability.md B-11). One line of its main
# package is changed, in a copy that lives as long as this script.
patched=$here/_buildkitd
trap 'rm -rf "$patched"' EXIT
patch_buildkitd() {
	from=$(go list -f '{{.Dir}}' github.com/moby/buildkit/cmd/buildkitd)
	rm -rf "$patched"
	mkdir "$patched"
	for f in "$from"/*.go; do
		case $f in *_test.go) ;; *) cat "$f" >"$patched/${f##*/}" ;; esac
	done
	sed -i 's/^\(\t*traceSocket: *\)traceSocket,$/\1"",/' "$patched/main.go"
	if cmp -s "$from/main.go" "$patched/main.go"; then
		echo "engine: buildkitd $buildkit has no line that passes the trace socket to steps; look at build.sh" >&2
		exit 1
	fi
}
current buildkitd || patch_buildkitd
build buildkitd ./_buildkitd 0 "$static" "$v"
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
