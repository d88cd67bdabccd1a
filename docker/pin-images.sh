#!/bin/sh
# Name all foreign images by the digest that their registries have now behind the tag:
#   docker/pin-images.sh        python:3.11-slim-bookworm becomes python:3.11-slim-bookworm@sha256:…
# Builds are then reproducible, and get security updates only by running this again: monthly, followed by a build, the
# tests and a commit. Needs docker with buildx; nothing is pulled. If one image cannot be looked up, no file is changed.
set -eu
cd "${1:-$(dirname "$0")/..}"
files="Dockerfile docker-compose.yml"
# name:tag after FROM or image:, without a variable in it
named='^(FROM|    image:) ([a-z0-9./-]+:[A-Za-z0-9._-]+)(@sha256:[0-9a-f]{64})?( AS [a-z]+)?$'
# shellcheck disable=SC2086 # two files
images=$(sed -nE "s#$named#\2#p" $files | sort -u)
edits=""
for image in $images; do
  digest=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$image")
  echo "$digest" | grep -qE '^sha256:[0-9a-f]{64}$' || { echo "$image: no digest but '$digest'" >&2; exit 1; }
  echo "$image@$digest"
  edits="$edits;s#^(FROM|    image:) $image(@sha256:[0-9a-f]{64})?( AS [a-z]+)?\$#\1 $image@$digest\3#"
done
# shellcheck disable=SC2086
sed -Ei "${edits#;}" $files
