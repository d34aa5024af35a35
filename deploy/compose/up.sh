#!/usr/bin/env bash
# Makes what is missing of passwords and certificates, in secrets/, then starts the stack:
#
#   deploy/compose/up.sh [arguments of docker compose up]
#
# COMPOSE=... names another command than "docker compose".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# Letters and digits only, a letter first: it stands in addresses and in nats-server's configuration.
password() {
  printf 'p%s' "$(openssl rand -hex 24)"
}

# Containers run as users that this machine does not know: they may read the files, and nobody else
# gets as far as the files.
keep() {
  [ -e "secrets/$1" ] || printf '%s' "$2" >"secrets/$1"
}

umask 022
mkdir -p secrets
chmod 700 secrets
keep database_password "$(password)"
keep database_dsn "postgresql://market:$(cat secrets/database_password)@database:5432/market"
keep control_token "$(password)"
keep grafana_password "$(password)"
if [ ! -e secrets/nats.env ]; then
  for user in setup ingest klines save gateway api; do
    word=$(password)
    printf 'NATS_PASSWORD_%s=%s\n' "$(echo "$user" | tr '[:lower:]' '[:upper:]')" "$word"
    printf 'tls://%s:%s@nats:4222' "$user" "$word" >"secrets/nats_$user"
  done >secrets/nats.env.new
  mv secrets/nats.env.new secrets/nats.env
fi
../nats/make-certificates.sh secrets/tls nats localhost 127.0.0.1
chmod 755 secrets/tls
chmod 644 secrets/tls/server.key

${COMPOSE:-docker compose} up --detach --build "$@"
cat <<TEXT
  REST      http://127.0.0.1:8080/api/v1/info    control: Authorization: Bearer \$(cat $PWD/secrets/control_token)
  push      ws://127.0.0.1:8081/ws               TCP: nc 127.0.0.1 8888
  Grafana   http://127.0.0.1:3000                admin, \$(cat $PWD/secrets/grafana_password)
  alerts    http://127.0.0.1:9090/alerts
TEXT
