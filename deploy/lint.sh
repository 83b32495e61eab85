#!/usr/bin/env bash
# gofmt, vet, staticcheck, shell syntax. The rules about imports and package
# docs are tests (internal/archtest), since they explain themselves there.
set -uo pipefail
cd "$(dirname "$0")/.."
status=0
unformatted=$(gofmt -l $(git ls-files '*.go'))
if [ -n "$unformatted" ]; then
  echo "not gofmt'ed:" $unformatted
  status=1
fi
go vet ./... || status=1
go tool staticcheck ./... || status=1
for f in $(git ls-files '*.sh') .ci/run; do bash -n "$f" || status=1; done
if ! git diff --quiet -- go.mod go.sum 2>/dev/null; then echo "note: go.mod has changes that are not committed"; fi
exit $status
