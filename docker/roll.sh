#!/bin/sh
# Replace the replicas behind the proxy one after the other, without a post being refused or lost:
#   docker/roll.sh smner smner-1
# What they are replaced with (an image, a checkpoint) is whatever docker-compose.yml and .env say now. One that does not
# become ready ends this with an error; the others go on serving.
# COMPOSE holds the command where it is more than `docker compose --profile scale`, for example with further files.
set -eu
compose=${COMPOSE:-docker compose --profile scale}

# Ready is not enough: until the proxy's own check has succeeded, the other replica is the only one it has.
wait_for_proxy() {
  for _ in $(seq 30); do
    state=$(echo "show servers state smner" | $compose exec -T proxy nc 127.0.0.1 9999 |
      awk -v replica="$1" '$4 == replica { print $6 }')
    [ "$state" = 2 ] && return # srv_op_state: running
    sleep 1
  done
  echo "the proxy does not find $1 ready" >&2
  exit 1
}

[ $# -ge 2 ] || { echo "usage: $0 REPLICA REPLICA…; with only one, posts would be refused meanwhile" >&2; exit 2; }
for replica in "$@"; do
  # it takes posts until the proxy has seen that it is leaving: SMNER_SHUTDOWN_DELAY_SECONDS
  $compose up --detach --no-deps --force-recreate --wait "$replica"
  wait_for_proxy "$replica"
done
