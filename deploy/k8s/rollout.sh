#!/usr/bin/env bash
# Brings a cluster to an overlay, in the order in which an upgrade loses nothing:
#
#   deploy/k8s/rollout.sh FOLDER
#
# First schema and streams, then those who read before those who write: new readers understand what
# old writers send, not the other way round. Stops at the first step that fails; run it again then.
set -euo pipefail

[ $# -eq 1 ] && [ -e "$1/kustomization.yaml" ] || {
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
}
folder=$1
kubectl=${KUBECTL:-kubectl}
label=app.kubernetes.io/component

apply() {
  "$kubectl" apply -k "$folder" -l "$label=$1"
}

apply common
"$kubectl" -n market-ingestor delete job setup --ignore-not-found # a job cannot be changed
apply setup
"$kubectl" -n market-ingestor wait --for=condition=complete --timeout=3600s job/setup
for role in api gateway save klines ingest; do
  apply "$role"
  for kind in deployment statefulset; do
    if "$kubectl" -n market-ingestor get "$kind" "$role" >/dev/null 2>&1; then
      "$kubectl" -n market-ingestor rollout status "$kind/$role" --timeout=600s
    fi
  done
done
