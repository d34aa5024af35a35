# Sets up what a command needs before it can run, as far as it is not there yet: a virtual
# environment with the locked dependencies, nats-server and PostgreSQL. Sourced by the executables
# beside it; runs on bash 3.2, the one macOS has.
#
# A run that finds everything in place takes no lock, changes nothing and says nothing. Otherwise
# one line is written to stderr for each step taken, and runs at the same time wait for each other.
# shellcheck shell=bash

PROJECT_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
VENV="$PROJECT_ROOT/.venv"
VENV_PYTHON="$VENV/bin/python"

# use_environment NAME: from here on another virtual environment than .venv is meant.
use_environment() {
  VENV="$PROJECT_ROOT/$1"
  VENV_PYTHON="$VENV/bin/python"
}

say() {
  printf 'set-up: %s\n' "$*" >&2
}

die() {
  printf 'set-up failed: %s\n' "$*" >&2
  exit 1
}

# Runs a command as root; fails where that is not possible.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null 2>&1; then
    sudo "$@"
  else
    return 126
  fi
}

is_recent_python() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
  local name
  for name in python3 python3.14 python3.13 python3.12 python3.11 python; do
    if command -v "$name" >/dev/null 2>&1 && is_recent_python "$name"; then
      # The interpreter itself: a version manager's stand-in may later mean another one.
      "$name" -c 'import sys; print(sys.executable)'
      return 0
    fi
  done
  return 1
}

# Installs system packages without starting or enabling a service.
install_packages() {
  if [ "$(uname -s)" = Darwin ]; then
    command -v brew >/dev/null 2>&1 || die "$* missing and Homebrew not found: see https://brew.sh"
    local package formulas=()
    for package in "$@"; do
      [ "$package" = postgresql ] && package=postgresql@17
      formulas+=("$package")
    done
    say "installing ${formulas[*]} with Homebrew"
    HOMEBREW_NO_AUTO_UPDATE=1 brew install --quiet "${formulas[@]}" >&2 ||
      die "brew install ${formulas[*]}"
  elif command -v apt-get >/dev/null 2>&1; then
    say "installing $* with apt-get"
    as_root bash "$PROJECT_ROOT/cmd/_install_debian.sh" "$@" </dev/null >&2 ||
      die "install by hand, then run again: apt-get install $*"
  else
    die "$* not found: install with your package manager, then run again"
  fi
}

# What the stamp of a lock must say for the environment to be up to date with it.
wanted_stamp() {
  "$VENV_PYTHON" - "$1" "$PROJECT_ROOT" 2>/dev/null <<'PYTHON'
import hashlib, pathlib, sys
digest = hashlib.sha256(pathlib.Path(sys.argv[1]).read_bytes()).hexdigest()
print(digest, "%d.%d" % sys.version_info[:2], sys.argv[2])
PYTHON
}

# environment_is_current LOCK
environment_is_current() {
  local stamp="$VENV/.installed-$1"
  is_recent_python "$VENV_PYTHON" && [ -f "$stamp" ] &&
    [ "$(cat "$stamp")" = "$(wanted_stamp "$PROJECT_ROOT/deploy/$1.lock")" ]
}

make_environment() {
  local python version
  python=$(find_python) || die "Python 3.11 or newer not found: install it, then run again"
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    # Debian ships the module apart from the interpreter.
    install_packages "python$version-venv"
  fi
  say "making ${VENV##*/} with Python $version"
  # Not "--clear": the lock that we hold is in there.
  (cd "$VENV" && rm -rf bin include lib lib64 share pyvenv.cfg .installed-*)
  "$python" -m venv "$VENV" || die "$python -m venv $VENV"
}

# install_dependencies LOCK
install_dependencies() {
  say "installing the dependencies in deploy/$1.lock"
  "$VENV_PYTHON" -m pip install --quiet --disable-pip-version-check --no-input --require-hashes \
    -r "$PROJECT_ROOT/deploy/$1.lock" >&2 || die "the dependencies could not be installed"
  # The project itself is found by its path: nothing to build, and edits count at once.
  "$VENV_PYTHON" - "$PROJECT_ROOT" <<'PYTHON' || die "cannot write to $VENV"
import pathlib, sys, sysconfig
path = pathlib.Path(sysconfig.get_path("purelib"), "market_ingestor_project.pth")
path.write_text(sys.argv[1] + "\n", encoding="utf-8")
PYTHON
  wanted_stamp "$PROJECT_ROOT/deploy/$1.lock" >"$VENV/.installed-$1"
}

# Holds the set-up lock in descriptor 9. Python takes it because macOS has no flock command; the
# lock belongs to the open file, which this shell keeps when that Python has ended.
lock_set_up() {
  local python=$VENV_PYTHON
  is_recent_python "$python" || python=$(find_python) ||
    die "Python 3.11 or newer not found: install it, then run again"
  mkdir -p "$VENV"
  exec 9>>"$VENV/.set-up.lock"
  "$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' || die "cannot lock $VENV"
}

unlock_set_up() {
  exec 9>&-
}

# ensure_environment LOCK: a virtual environment with what deploy/LOCK.lock lists.
ensure_environment() {
  environment_is_current "$1" && return 0
  lock_set_up
  if ! environment_is_current "$1"; then # else another run has done it meanwhile
    if ! is_recent_python "$VENV_PYTHON" || ! "$VENV_PYTHON" -m pip --version >/dev/null 2>&1; then
      make_environment
    fi
    install_dependencies "$1"
  fi
  unlock_set_up
}

missing_servers() {
  "$VENV_PYTHON" -P -m market_ingestor.embedded.missing
}

# ensure_servers: nats-server and PostgreSQL as programs; nothing is started.
ensure_servers() {
  local missing
  missing=$(missing_servers) || exit 2
  [ -z "$missing" ] && return 0
  lock_set_up
  missing=$(missing_servers) || exit 2
  if [ -n "$missing" ]; then
    # shellcheck disable=SC2086 # one word for each package
    install_packages $missing
    missing=$(missing_servers) || exit 2
    [ -z "$missing" ] || die "not found after the installation: $(echo "$missing" | tr '\n' ' ')"
  fi
  unlock_set_up
}

# ensure_charts: what the dashboard draws with, from npm. Without it browsers load that from its
# public address, which is said.
ensure_charts() {
  "$VENV_PYTHON" -P -m market_ingestor.api.dashboard.install
}

has_chromium() {
  command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 ||
    command -v google-chrome >/dev/null 2>&1
}

# ensure_test_tools: promtool, prometheus, chromium. Without them the tests that need them are skipped.
ensure_test_tools() {
  command -v promtool >/dev/null 2>&1 && has_chromium && return 0
  lock_set_up
  if ! command -v promtool >/dev/null 2>&1; then
    (install_packages prometheus) || say "no Prometheus: tests of metrics and alerts are skipped"
  fi
  if ! has_chromium; then
    (install_packages chromium) || say "no Chromium: tests of the dashboard are skipped"
  fi
  unlock_set_up
}

# run_project ARGUMENTS...: becomes the project's command line.
run_project() {
  exec "$VENV_PYTHON" -P -m market_ingestor "$@"
}
