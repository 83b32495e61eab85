#!/usr/bin/env bash
# `make run`: from a fresh checkout to a running app. Asks nothing; DATA, PORT and
# ROUTER_PORT come from the Makefile. Ctrl-C stops what it started.
set -euo pipefail
cd "$(dirname "$0")/.."

DATA=${DATA:-$PWD/.slipway} PORT=${PORT:-8700} ROUTER_PORT=${ROUTER_PORT:-8780}
SAMPLE=${SAMPLE:-examples/node-hello}
started=$(date +%s.%N)

step() { # name, command...: one line when it begins, its time when it ends
  local name=$1 t0 t1 log
  shift
  t0=$(date +%s.%N)
  log=$(mktemp)
  printf '  %-34s ' "$name"
  if ! "$@" >"$log" 2>&1; then
    printf 'failed\n\n'
    tail -n 40 "$log"
    rm -f "$log"
    exit 1
  fi
  t1=$(date +%s.%N)
  printf '%6.1f s\n' "$(echo "$t1 - $t0" | bc -l 2>/dev/null || awk "BEGIN{print $t1-$t0}")"
  rm -f "$log"
}

if [ "$(id -u)" != 0 ]; then
  echo "Slipway runs containers, which needs root. Run:  sudo make run DATA='$DATA' PORT=$PORT ROUTER_PORT=$ROUTER_PORT" >&2
  exit 1
fi

echo "Slipway: from a zip to a URL (data in $DATA)"
step "install missing packages" bash deploy/install.sh
step "build the engine (first: ~6 min)" make --no-print-directory engine
step "build slipway" make --no-print-directory build

npm_config_registry=$(bash deploy/registry.sh)
export npm_config_registry
mkdir -p "$DATA"
chmod 0711 "$DATA"
down() {
  trap - EXIT INT TERM
  echo
  echo "Stopping Slipway (data stays in $DATA) …"
  bin/slipway down --data "$DATA"
}
trap 'down; exit 130' INT TERM
trap 'down' EXIT

setsid bin/slipway server --data "$DATA" --listen "127.0.0.1:$PORT" --router-listen "127.0.0.1:$ROUTER_PORT" \
  >>"$DATA/server.log" 2>&1 &
server=$!

wait_ready() {
  for _ in $(seq 600); do
    if ! kill -0 "$server" 2>/dev/null; then
      echo "the server ended; its last lines ($DATA/server.log):"
      tail -n 20 "$DATA/server.log"
      return 1
    fi
    if curl -fsS -o /dev/null "http://127.0.0.1:$PORT/healthz" 2>/dev/null; then return 0; fi
    sleep 0.1
  done
  echo "the server did not answer on port $PORT within 60 s; its last lines ($DATA/server.log):"
  tail -n 20 "$DATA/server.log"
  return 1
}
step "start server, engine, routers" wait_ready

export SLIPWAY_SERVER="http://127.0.0.1:$PORT"
sign_in() { # a token that still works is kept
  if [ ! -s "$DATA/token" ] || ! SLIPWAY_TOKEN=$(cat "$DATA/token") bin/slipway apps -q >/dev/null; then
    (umask 077 && bin/slipway admin token --data "$DATA" >"$DATA/token.new")
    mv "$DATA/token.new" "$DATA/token"
  fi
  bin/slipway login "$SLIPWAY_SERVER" --token-file "$DATA/token"
}
step "administrator and sign-in" sign_in

app=$(basename "$SAMPLE")
echo "  deploy $SAMPLE as a zip:"
bin/slipway deploy "$SAMPLE" --app "$app"

cat <<EOF

  API and dashboard   $SLIPWAY_SERVER
  token               $(cat "$DATA/token")   (also in $DATA/token)
  your app            http://$app.localhost:$ROUTER_PORT

  Next:  bin/slipway apps · bin/slipway logs -a $app -f · bin/slipway scale web=3 -a $app · bin/slipway deploy DIR --app NAME
  Ready after $(awk "BEGIN{printf \"%.1f\", $(date +%s.%N)-$started}") s. Ctrl-C stops everything; \`make down\` whatever is left.
EOF
if [ -n "${ONCE:-}" ]; then exit 0; fi
wait "$server" || true
