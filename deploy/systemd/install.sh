#!/usr/bin/env bash
# Installs market-ingestor from this checkout under systemd, or brings an installation to it:
#
#   sudo deploy/systemd/install.sh
#
# Writes /opt/market-ingestor (a virtual environment with the locked dependencies), the units, the
# user, and /etc/market-ingestor with an example to fill in. What is in /etc already stays as it is.
# Starts nothing. DESTDIR=FOLDER writes below FOLDER instead and leaves users alone, for packagers.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
project=$(cd "$here/../.." && pwd -P)
root=${DESTDIR:-}
home=$root/opt/market-ingestor
etc=$root/etc/market-ingestor
units=$root/usr/lib/systemd/system

[ -n "$root" ] || [ "$(id -u)" -eq 0 ] || {
  echo "install.sh: run as root, or set DESTDIR" >&2
  exit 1
}
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "install.sh: Python 3.11 or newer is needed; PYTHON=... chooses one" >&2
  exit 1
}

umask 022
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

# The wheel is built with locked tools too, in an environment of its own. The new environment is
# whole before it takes the place of the old one, which stays as .old: running roles use it until
# they restart, and moved back it undoes an upgrade.
pip() {
  local environment=$1
  shift
  "$environment/bin/python" -m pip --quiet --disable-pip-version-check --no-input "$@"
}
"$python" -m venv "$build/tools"
pip "$build/tools" install --require-hashes -r "$project/deploy/requirements-build.lock"
pip "$build/tools" wheel --no-deps --no-build-isolation -w "$build" "$project"
rm -rf "$home.new"
mkdir -p "$(dirname "$home")"
"$python" -m venv "$home.new"
pip "$home.new" install --require-hashes -r "$project/deploy/requirements.lock"
pip "$home.new" install --no-deps --no-index "$build"/market_ingestor-*.whl
# Scripts name the interpreter by its path, which is another one after the move.
for script in "$home.new"/bin/*; do
  [ -L "$script" ] || sed -i "1s|^#!.*\.new/bin/python.*|#!/opt/market-ingestor/bin/python|" "$script"
done
rm -rf "$home.old"
[ ! -e "$home" ] || mv "$home" "$home.old"
mv "$home.new" "$home"

install -D -m 644 -t "$units" "$here"/*.service "$here"/*.target
install -D -m 644 "$here/sysusers.conf" "$root/usr/lib/sysusers.d/market-ingestor.conf"
install -D -m 644 "$here/tmpfiles.conf" "$root/usr/lib/tmpfiles.d/market-ingestor.conf"
install -D -m 644 -t "$root/usr/share/doc/market-ingestor" "$project/deploy/RUNBOOK.md" \
  "$project/deploy/SECURITY.md" "$project/README.md"
mkdir -p "$etc"
if [ ! -e "$etc/config.toml" ]; then
  (umask 027 && sed 's|^dsn = .*|# dsn is in secrets/database-dsn|' "$project/deploy/config.example.toml" \
    >"$etc/config.toml")
fi
if [ ! -e "$etc/secrets/database-dsn" ]; then
  install -d -m 700 "$etc/secrets"
  (umask 077 && echo 'postgresql://market:secret@127.0.0.1:5432/market' >"$etc/secrets/database-dsn")
fi

if [ -z "$root" ]; then
  systemd-sysusers
  systemd-tmpfiles --create market-ingestor.conf
  systemctl daemon-reload
fi
cat <<TEXT
Installed. Next:
  $etc/config.toml and $etc/secrets/database-dsn   fill in
  MARKET_INGESTOR_DATABASE__DSN_FILE=/etc/market-ingestor/secrets/database-dsn \\
    /opt/market-ingestor/bin/market-ingestor check      is everything reachable?
  systemctl start market-ingestor-migrate
  systemctl enable --now market-ingestor.target market-ingestor@{ingest,klines,save,gateway,api}
TEXT
