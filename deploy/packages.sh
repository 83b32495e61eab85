#!/usr/bin/env bash
# Lists the repository's packages for one kind of test run: `unit` (no daemon,
# no root) or `daemons` (the rest, but for e2e, which has a run of its own).
set -euo pipefail
cd "$(dirname "$0")/.."
daemons='/(builder|builder/llb|builder/base|internal/blob|internal/engine|internal/store|runtime/containerd|runtime/network)$'
case $1 in
unit) go list ./... | grep -vE "$daemons|/e2e|/bench/deploy|/builder/archive$" ;;
daemons) go list ./... | grep -E "$daemons" ;;
*) echo "usage: packages.sh unit|daemons" >&2; exit 2 ;;
esac
