#!/usr/bin/env bash
# After the tests: nothing of theirs may be left on the machine. Everything that
# Slipway makes outside its data folder carries a name of ours (docs/contracts.md).
set -uo pipefail
status=0
found() { # what, list
  [ -z "$2" ] && return
  echo "left over, $1:"
  echo "$2"
  status=1
}
running=${SLIPWAY_RUNNING_DATA:-} # a Slipway that the developer runs meanwhile is not ours to judge
skip() { if [ -n "$running" ]; then grep -v "$(printf %s "$running" | sha256sum | cut -c1-6)"; else cat; fi; }
found "interfaces" "$(ip -o link 2>/dev/null | awk -F': ' '{print $2}' | grep -E '^sl[0-9a-f]{6}' | skip)"
found "nftables tables" "$(nft list tables 2>/dev/null | grep slipway_ | skip)"
found "cgroups" "$(find /sys/fs/cgroup -maxdepth 3 -type d -name 'slipway-*' 2>/dev/null | skip)"
found "mounts" "$(grep -E 'slipway|/tmp/Test' /proc/mounts | grep -vF "${running:-no-such-folder}")"
[ $status = 0 ] && echo "nothing left over"
exit $status
