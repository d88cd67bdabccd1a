#!/bin/sh
# Replace the replicas behind the proxy one at a time, without refusing or losing a post:
#   docker/roll.sh smner smner-1
# The new ones use the image and checkpoint that docker-compose.yml and .env name now. If one does not become ready, the
# script fails and the others keep serving.
# Set COMPOSE if the command is more than `docker compose --profile scale`, for example with more files.
set -eu
compose=${COMPOSE:-docker compose --profile scale}

# Ready is not enough: the proxy sends nothing to a replica until its own check has succeeded.
wait_for_proxy() {
  for _ in $(seq 30); do
    state=$(echo "show servers state smner" | $compose exec -T proxy nc 127.0.0.1 9999 |
      awk -v replica="$1" '$4 == replica { print $6 }')
    [ "$state" = 2 ] && return # srv_op_state: running
    sleep 1
  done
  echo "the proxy does not consider $1 ready" >&2
  exit 1
}

[ $# -ge 2 ] || { echo "usage: $0 REPLICA REPLICA…; replacing a single one would refuse posts" >&2; exit 2; }
for replica in "$@"; do
  # The old one takes posts for SMNER_SHUTDOWN_DELAY_SECONDS, until the proxy has noticed that it is stopping.
  $compose up --detach --no-deps --force-recreate --wait "$replica"
  wait_for_proxy "$replica"
done
