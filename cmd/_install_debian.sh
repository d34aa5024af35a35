#!/usr/bin/env bash
# Installs Debian packages for their programs alone: no service is started now, none is enabled for
# the next boot, and no database cluster is made. Run as root, with the packages as arguments.
#
# What keeps services down during the installation is removed again at the end, whatever happens;
# a policy that the administrator has put there stays.
set -euo pipefail

export DEBIAN_FRONTEND=noninteractive

POLICY=/usr/sbin/policy-rc.d
CLUSTERS=/etc/postgresql-common/createcluster.d/market-ingestor.conf
MARK='# made by the set-up of market-ingestor for the time of one installation, safe to remove'
LOCK=/run/market-ingestor-set-up.lock

is_ours() {
  [ -e "$1" ] && grep -qF "$MARK" "$1"
}

is_installed() {
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

can_be_installed() {
  local package
  for package in "$@"; do
    # A package that apt does not know, or knows in no version, means lists that are not there.
    LC_ALL=C apt-cache policy "$package" | grep -q 'Candidate: [^(]' || return 1
  done
}

update_lists() {
  quietly apt-get update -o DPkg::Lock::Timeout=600
}

# Says nothing unless it fails.
quietly() {
  "$@" >"$OUTPUT" 2>&1 || {
    cat "$OUTPUT" >&2
    return 1
  }
}

install_all() {
  quietly apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=600 \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}

clean_up() {
  rm -f "$OUTPUT"
  ! is_ours "$POLICY" || rm -f "$POLICY"
  ! is_ours "$CLUSTERS" || rm -f "$CLUSTERS"
  rmdir /etc/postgresql-common/createcluster.d /etc/postgresql-common 2>/dev/null || true
}

OUTPUT=$(mktemp)
exec 8>>"$LOCK"
flock 8 # another clone may be at it; its marks are ours to remove only when it has ended
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

new=()
for package in "$@"; do
  is_installed "$package" || new+=("$package")
done
[ "${#new[@]}" -gt 0 ] || exit 0

if [ ! -e "$POLICY" ]; then
  printf '#!/bin/sh\n%s\nexit 101\n' "$MARK" >"$POLICY"
  chmod 755 "$POLICY"
fi
if [ ! -e "$CLUSTERS" ]; then
  mkdir -p "$(dirname "$CLUSTERS")"
  printf '%s\ncreate_main_cluster = false\n' "$MARK" >"$CLUSTERS"
fi

can_be_installed "${new[@]}" || update_lists
# Lists of yesterday name files that are gone by today; new ones are worth a second try.
install_all "${new[@]}" || { update_lists && install_all "${new[@]}"; }

if command -v systemctl >/dev/null 2>&1; then
  for package in "${new[@]}"; do
    case "$package" in
      nats-server | postgresql | prometheus) systemctl disable --quiet "$package.service" 2>/dev/null || true ;;
    esac
  done
fi
