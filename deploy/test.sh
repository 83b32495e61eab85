#!/usr/bin/env bash
# `make test`: everything, in the order in which it is cheapest to fail. Needs
# root (containers, network namespaces); installs what it needs by itself.
set -uo pipefail
cd "$(dirname "$0")/.."
export SLIPWAY_ENGINE="$PWD/bin/engine"

if [ "$(id -u)" != 0 ]; then
  echo "The tests run containers, which needs root. Run:  sudo make test" >&2
  exit 1
fi
failed=()
step() { # name, command...
  local name=$1 t0=$SECONDS
  shift
  echo "== $name"
  if "$@"; then
    echo "== $name: ok ($((SECONDS - t0)) s)"
  else
    echo "== $name: FAILED ($((SECONDS - t0)) s)"
    failed+=("$name")
  fi
}
must() { step "$@"; [ ${#failed[@]} -eq 0 ] || exit 1; }

must "install" bash deploy/install.sh --test
npm_config_registry=$(bash deploy/registry.sh)
export npm_config_registry
must "engine" bash deploy/engine/build.sh -test "$SLIPWAY_ENGINE"
must "build" make --no-print-directory build
step "lint" bash deploy/lint.sh
# What starts daemons runs one package at a time: they share two cores, cgroups and addresses.
step "archives" go test -timeout 10m ./builder/archive # the bombs take minutes under the race detector
step "unit" go test -race -p 2 -timeout 15m $(bash deploy/packages.sh unit)
step "daemons" go test -race -p 1 -timeout 20m $(bash deploy/packages.sh daemons)

step "end to end" go test -count=1 -v -timeout 30m ./e2e/...
step "left-overs" bash deploy/leftovers.sh
if [ ${#failed[@]} -gt 0 ]; then
  echo "FAILED: ${failed[*]}"
  exit 1
fi
echo "all green in $SECONDS s"
