#!/bin/sh
# Write the PrometheusRule of Kubernetes from the rules that compose mounts. Run it after each change of those.
set -eu
cd "$(dirname "$0")"
{
  cat <<'HEAD'
# Made from docker/prometheus/rules.yml by docker/kubernetes/prometheus-rule.sh.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: smner
  labels: {app.kubernetes.io/name: smner}
spec:
HEAD
  sed 's/^./  &/' ../prometheus/rules.yml
} > "${1:-components/monitoring/prometheus-rule.yaml}"
