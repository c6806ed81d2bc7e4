#!/usr/bin/env bash
# Runs every check, cheapest first: format, lints, docs, tests, demo. The same here and in CI.
#
#   deploy/test.sh          everything that must pass before a change goes in
#   deploy/test.sh --long   the same, and the tests that are marked to be ignored because they take long
#
# Servers and peers that are missing are installed from Debian's packages, as root or through sudo; else this says what
# to install and fails. The tests start private instances of RabbitMQ, Redis and PostgreSQL, and stop exactly those.
set -euo pipefail
cd "$(dirname "$0")/.."

long=false
case "${1-}" in
"") ;;
--long) long=true ;;
*)
  echo "usage: deploy/test.sh [--long]" >&2
  exit 64
  ;;
esac

export CARGO_TERM_COLOR=never CARGO_INCREMENTAL=0 RUST_BACKTRACE=1
started=$SECONDS
timings=()
running=

# stage NAME COMMAND... runs a command, and keeps how long it took. Any failure ends the script and names the stage.
# (Not `if ! "$@"`: a condition would let a function go on after a command of it that failed.)
stage() {
  local began=$SECONDS
  running=$1
  shift
  echo "==> $running"
  "$@"
  timings+=("$(printf '%-28s %5d s' "$running" $((SECONDS - began)))")
  running=
}

at_exit() {
  local status=$?
  printf '%s\n' "" "${timings[@]}"
  if [ -n "$running" ]; then
    echo "FAILED: $running" >&2
  elif [ $status = 0 ]; then
    echo "everything passed in $((SECONDS - started)) s"
  fi
}
trap at_exit EXIT

# === what must be there ===

has_rabbitmq() { [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || command -v rabbitmq-server; }
has_epmd() { command -v epmd; }
has_redis() { command -v redis-server; }
has_promtool() { command -v promtool && command -v prometheus; }
has_postgres() { ls /usr/lib/postgresql/*/bin/postgres || command -v postgres; }
has_node() { command -v node; }
has_npm() { command -v npm; }
has_venv() { python3 -c 'import venv, ensurepip'; }
has_cc() { command -v cc; }
has_sipp() { command -v sipp; }
has_espeak() { command -v espeak-ng; }
has_kannel() { [ -x /usr/sbin/bearerbox ]; }
has_asterisk() { [ -x /usr/sbin/asterisk ]; }

# Prints the Debian packages that are missing, one a line.
missing_packages() {
  local pair
  for pair in rabbitmq:rabbitmq-server epmd:erlang-base redis:redis-server postgres:postgresql promtool:prometheus node:nodejs npm:npm \
    venv:python3-venv cc:gcc sipp:sip-tester espeak:espeak-ng kannel:kannel; do
    "has_${pair%%:*}" >/dev/null 2>&1 || echo "${pair#*:}"
  done
}

install_packages() {
  local as_root=() policy=/usr/sbin/policy-rc.d made_policy=false
  if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
      echo "missing, and neither root nor sudo to install them: apt-get install $*" >&2
      return 1
    fi
    as_root=(sudo -n)
  fi
  if ! command -v apt-get >/dev/null; then
    echo "missing, and no apt-get to install them: $*" >&2
    return 1
  fi
  # The tests start instances of their own. Nothing that comes with the packages is started, unless this machine has
  # said what to do about that.
  if [ ! -e "$policy" ]; then
    made_policy=true
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
  fi
  local status=0
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive sh -c \
    'apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"' install "$@" || status=$?
  if $made_policy; then
    "${as_root[@]}" rm -f "$policy"
  fi
  return $status
}

servers() {
  local missing
  mapfile -t missing < <(missing_packages)
  if [ ${#missing[@]} -gt 0 ]; then
    echo "installing ${missing[*]}"
    install_packages "${missing[@]}"
    mapfile -t missing < <(missing_packages)
    if [ ${#missing[@]} -gt 0 ]; then
      echo "still missing after the installation: ${missing[*]}" >&2
      return 1
    fi
  fi
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

# Asterisk is in Debian 11 and in none since that this script has seen; its packages work on Debian 12. They come from this
# machine's own mirror, and nothing else comes from there: everything of that release is pinned below what is installed,
# but for Asterisk and the two libraries that it needs.
asterisk_source() {
  local mirror
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' |
    awk '$2 == "bookworm" && $3 == "main" { print $1; exit }')
  [ -n "$mirror" ] || return 1
  printf '%s\n' "Types: deb" "URIs: $mirror" "Suites: bullseye" "Components: main" \
    "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg" |
    as_root tee /etc/apt/sources.list.d/asterisk-bullseye.sources >/dev/null
  printf '%s\n' "Package: *" "Pin: release n=bullseye" "Pin-Priority: 100" "" \
    "Package: asterisk asterisk-* libssl1.1 libldap-2.4-2" "Pin: release n=bullseye" "Pin-Priority: 500" |
    as_root tee /etc/apt/preferences.d/asterisk-bullseye >/dev/null
}

asterisk() {
  if ! has_asterisk && command -v apt-get >/dev/null; then
    local added=false
    # (It succeeds, and shows nothing, for a package that others only name.)
    if [ -z "$(apt-cache show asterisk 2>/dev/null)" ]; then
      asterisk_source && added=true
    fi
    install_packages asterisk asterisk-modules || true
    # A release that this mirror has no more would fail every later update.
    if $added && ! has_asterisk; then
      as_root rm -f /etc/apt/sources.list.d/asterisk-bullseye.sources /etc/apt/preferences.d/asterisk-bullseye
    fi
  fi
  if ! has_asterisk; then
    printf '%s\n' "" "NO ASTERISK: its package cannot be had here. The tests of tests/it/calls.rs are SKIPPED." "" >&2
    export POSTRIDER_TEST_WITHOUT_ASTERISK=1
  fi
}

toolchain() {
  if ! command -v cargo >/dev/null; then
    echo "cargo is missing: install stable Rust, see https://rustup.rs" >&2
    return 1
  fi
  cargo --version
  if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
    rustup component add rustfmt clippy
  fi
}

# fresh STAMP FILE: whether what STAMP stands for was made from FILE as it is now.
fresh() { [ -e "$1" ] && [ "$(cat "$1")" = "$(sha256sum <"$2")" ]; }

peers() {
  mkdir -p target/peers
  local stamp=tests/peers/node_modules/.postrider-stamp lock=tests/peers/package-lock.json
  if ! fresh $stamp $lock; then
    npm ci --prefix tests/peers --no-audit --no-fund --loglevel=error
    sha256sum <$lock >$stamp
  fi
  stamp=target/peers/venv/.postrider-stamp lock=tests/peers/requirements.txt
  if ! fresh $stamp $lock; then
    python3 -m venv --clear target/peers/venv
    target/peers/venv/bin/pip install --quiet --disable-pip-version-check --only-binary :all: -r $lock
    sha256sum <$lock >$stamp
  fi
}

# === the checks ===
#
# All of them with the dependencies of the release profile, so that those are compiled once.

# Tests of how late something is: they have the machine to themselves.
timed=million
threads=$(($(nproc) + 1))

# Unit tests check what code does, not how fast: to optimize all of it once more for them as far as for the release would
# take minutes. What they are linked to is of the release, and the service that the other tests start is what is shipped.
unit=(--lib --config 'profile.release.package.postrider.opt-level=1')

# (Examples there are none; asked for, they let cargo see the features that the lints saw, and take what those compiled.)
docs() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --release --no-deps --quiet --lib --bin postrider-load --examples; }
build() {
  cargo test --locked --release --quiet --no-run --test it --bin postrider-load
  cargo test --locked --release --quiet --no-run "${unit[@]}"
}
units() {
  cargo test --locked --release --quiet "${unit[@]}"
  cargo test --locked --release --quiet --bin postrider-load
}
# The program that the tests ran: with the features that only tests need left out, cargo would compile it all again.
demo() { "${CARGO_TARGET_DIR:-target}/release/postrider" demo; }

stage "toolchain" toolchain
stage "servers" servers
stage "asterisk" asterisk
stage "peers" peers
stage "format" cargo fmt --check
stage "lints" cargo clippy --locked --release --all-targets --quiet -- -D warnings
stage "docs" docs
stage "build of the tests" build
stage "unit and property tests" units
stage "examples in the docs" cargo test --locked --release --quiet --doc
# They wait more than they work.
stage "contracts and whole service" cargo test --locked --release --test it -- --skip "$timed" --test-threads "$threads"
stage "promises in seconds" cargo test --locked --release --test it "$timed" -- --test-threads 1
stage "deployment" deploy/check.sh "${CARGO_TARGET_DIR:-target}/release/postrider"
stage "demo" demo
if $long; then
  stage "long simulations" cargo test --locked --release --lib -- --ignored --nocapture
  stage "long tests" cargo test --locked --release --test it -- --ignored --test-threads 1
fi
