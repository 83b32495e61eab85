#!/bin/sh
# Installs the Debian packages that Slipway needs and lacks; asks nothing.
#
#   deploy/install.sh [--test]     --test: also what the tests need
set -eu

packages="libseccomp-dev gcc libc6-dev mmdebstrap nftables iproute2 ca-certificates curl git make"
if [ "${1:-}" = --test ]; then
	packages="$packages postgresql zip"
	# What the archive tests pack with; a machine may have it from elsewhere.
	command -v python3 >/dev/null || packages="$packages python3"
	command -v jar >/dev/null || packages="$packages default-jdk-headless"
fi

missing=
for p in $packages; do
	# Installed and configured; a removed package with left-over configuration is not.
	case $(dpkg-query -W -f '${Status}' "$p" 2>/dev/null || true) in
	"install ok installed") ;;
	*) missing="$missing $p" ;;
	esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
	echo "install: missing:$missing" >&2
	echo "install: installing needs root; run: sudo $0${1:+ $1}" >&2
	exit 1
fi

export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
step() {
	name=$1
	shift
	begin=$(date +%s)
	printf 'install: %s' "$name"
	if ! "$@" >"$log" 2>&1; then
		echo " (it did not work after $(($(date +%s) - begin)) s; its output follows)"
		tail -n 30 "$log" >&2
		exit 1
	fi
	echo " $(($(date +%s) - begin)) s"
}
# Debian starts a server that it installs; the tests start their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
	trap 'rm -f "$log" "$policy"' EXIT
fi
step "package lists" apt-get update -q
# shellcheck disable=SC2086 # a list of words
step "packages$missing" apt-get install -q -y --no-install-recommends $missing
