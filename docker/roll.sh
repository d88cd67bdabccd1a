#!/bin/sh
# Replace the replicas of a service one at a time, without refusing or losing a post:
#   docker/roll.sh smner
# Beside the replicas that run, a new one starts with the image and checkpoint that docker-compose.yml and .env name now.
# Once the proxy sends it posts, an old one stops. If a new one does not become ready, it is removed, the script fails
# and the others keep serving.
# For smner-gpu-1 put COMPOSE_PROFILES=gpu-1 into .env. Set COMPOSE if the command is more than `docker compose`, for
# example with more files.
set -eu
compose=${COMPOSE:-docker compose}
docker=${DOCKER:-docker}
seconds=${SECONDS_TO_START:-300} # to load, to warm up and to be noticed by the proxy

# Whether CONTAINER is ready and the proxy sends it posts. The proxy alone takes every new address for ready until its
# first check, a second later; and of one that has become ready it learns by its next check.
in_rotation() {
  [ "$($docker inspect --format '{{.State.Health.Status}}' "$1")" = healthy ] || return 1
  address=$($docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$1")
  state=$(echo "show servers state smner" | $compose exec -T proxy nc 127.0.0.1 9999 |
    awk -v address="$address" '$5 == address { print $6 }')
  [ "$state" = 2 ] # srv_op_state: running
}

wait_for_proxy() {
  for _ in $(seq "$seconds"); do
    if in_rotation "$1"; then return 0; fi
    [ "$($docker inspect --format '{{.RestartCount}}' "$1")" = 0 ] || return 1
    sleep 1
  done
  return 1
}

# Start one more container of SERVICE, COUNT in all, and print its id.
start_one() {
  before=$($compose ps --quiet "$1")
  $compose up --detach --no-deps --no-recreate --scale "$1=$2" "$1" >&2
  $compose ps --quiet "$1" | grep -vxF "$before"
}

replace_all() {
  $compose rm --force "$1" >&2 # stopped ones would be started instead of a new one
  old=$($compose ps --quiet "$1")
  [ -n "$old" ] || { echo "no $1 runs; start it with: $compose up --detach --wait" >&2; exit 1; }
  count=$(echo "$old" | wc -l)
  for container in $old; do
    new=$(start_one "$1" $((count + 1)))
    if ! wait_for_proxy "$new"; then
      $docker logs --tail 20 "$new" >&2
      $docker rm --force "$new" >&2
      echo "the proxy does not consider the new $1 ready; nothing else was changed" >&2
      exit 1
    fi
    # It takes posts for SMNER_SHUTDOWN_DELAY_SECONDS, until the proxy has noticed that it is stopping.
    $docker stop "$container" >&2
    $docker rm "$container" >&2
  done
}

[ $# -ge 1 ] || { echo "usage: $0 SERVICE…" >&2; exit 2; }
for service in "$@"; do replace_all "$service"; done
