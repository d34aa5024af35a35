#!/usr/bin/env bash
# Restarts the roles on this machine one after the other, readers before writers, each when the one
# before is ready again:
#
#   sudo deploy/systemd/rolling-restart.sh [INSTANCE ...]
#
# Without instances: api gateway save klines ingest, as far as they are enabled. Of another instance
# the port must be in /etc/market-ingestor/INSTANCE.env.
set -euo pipefail

systemctl=${SYSTEMCTL:-systemctl}
curl=${CURL:-curl}
etc=${ETC:-/etc/market-ingestor}
wait_s=120

port_of() {
  local given
  given=$(sed -n 's/^MARKET_INGESTOR_METRICS__PORT=//p' "$etc/$1.env" 2>/dev/null || true)
  case $1 in
    ingest) echo "${given:-9701}" ;;
    klines) echo "${given:-9702}" ;;
    save) echo "${given:-9703}" ;;
    gateway) echo "${given:-9704}" ;;
    api) echo "${given:-9705}" ;;
    *) echo "${given:?no MARKET_INGESTOR_METRICS__PORT in $etc/$1.env}" ;;
  esac
}

restart() {
  local instance=$1 port deadline
  port=$(port_of "$instance")
  "$systemctl" restart "market-ingestor@$instance.service"
  deadline=$((SECONDS + wait_s))
  until "$curl" --fail --silent --output /dev/null "http://127.0.0.1:$port/health/ready"; do
    [ "$SECONDS" -lt "$deadline" ] || {
      echo "market-ingestor@$instance is not ready after $wait_s s: stopped here" >&2
      exit 1
    }
    sleep 1
  done
  echo "market-ingestor@$instance is ready"
}

if [ $# -gt 0 ]; then
  for instance in "$@"; do restart "$instance"; done
else
  for instance in api gateway save klines ingest; do
    ! "$systemctl" is-enabled --quiet "market-ingestor@$instance.service" || restart "$instance"
  done
fi
