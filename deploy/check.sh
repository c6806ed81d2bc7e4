#!/usr/bin/env bash
# Checks what this directory deploys, with the tools that know it; nothing of it is started, but for a Redis and promtool's
# rule tests.
#
#   deploy/check.sh [POSTRIDER]
#
# With the path of a built `postrider`, the settings that the deployments give it are checked too.
set -euo pipefail
cd "$(dirname "$0")/.."

program=${1-}
venv=target/deploy/venv
failed=0

# check NAME COMMAND...: runs one check, and shows what it said if it fails. In a function `set -e` does not hold: it says
# itself what ends it.
check() {
  local name=$1 said
  shift
  if said=$("$@" 2>&1); then
    echo "    $name"
  else
    echo "    $name: FAILED"
    printf '%s\n' "$said" | sed 's/^/      /'
    failed=1
  fi
}

tools() {
  local stamp=$venv/.postrider-stamp list=deploy/requirements.txt
  if [ ! -e $stamp ] || [ "$(cat $stamp)" != "$(sha256sum <$list)" ]; then
    mkdir -p target/deploy
    python3 -m venv --clear $venv
    $venv/bin/pip install --quiet --disable-pip-version-check --only-binary :all: -r $list
    sha256sum <$list >$stamp
  fi
}

# The directory that the checks of this run may write in.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

unit() {
  # The check wants the program to be there; the rest of the unit is looked at as it is.
  sed 's#/usr/local/bin/postrider#/bin/true#' deploy/systemd/postrider.service >"$scratch/postrider.service"
  # An unknown key is only a warning to it.
  ! systemd-analyze verify "$scratch/postrider.service" 2>&1 | grep -F "postrider.service" || return 1
  # 0 is what nothing can harm, 100 what runs as root with everything open.
  systemd-analyze security --no-pager --offline=true --threshold=20 "$scratch/postrider.service"
}

# Redis has no dry run: it starts with these lines, on a socket of its own, says what it has, and stops.
redis_settings() {
  local socket=$scratch/redis.sock want pid status=0
  redis-server deploy/servers/redis.conf --port 0 --unixsocket "$socket" --dir "$scratch" >"$scratch/redis.log" 2>&1 &
  pid=$!
  for _ in $(seq 100); do
    [ "$(redis-cli -s "$socket" ping 2>/dev/null)" = PONG ] && break
    sleep 0.1
  done
  for want in appendonly=yes appendfsync=always maxmemory-policy=noeviction; do
    if [ "$(redis-cli -s "$socket" config get "${want%=*}" | tail -1)" != "${want#*=}" ]; then
      echo "not set: $want"
      cat "$scratch/redis.log"
      status=1
    fi
  done
  redis-cli -s "$socket" shutdown nosave 2>/dev/null || kill "$pid"
  wait "$pid" || status=1
  return $status
}

# PostgreSQL reads the file and says what one setting came to; a line that it does not know is an error.
postgres_settings() {
  local postgres want name said
  postgres=$(ls /usr/lib/postgresql/*/bin/postgres 2>/dev/null | sort -V | tail -1)
  postgres=${postgres:-$(command -v postgres)}
  mkdir -p "$scratch/pg"
  for want in fsync=on full_page_writes=on synchronous_commit=on; do
    name=${want%=*}
    said=$("$postgres" -C "$name" -D "$scratch/pg" -c config_file="$PWD/deploy/servers/postgresql.conf") || return 1
    [ "$said" = "${want#*=}" ] || { echo "$name is $said"; return 1; }
  done
}

# Every line of the file is one that RabbitMQ's own schema has.
rabbitmq_settings() {
  local schema key
  schema=$(find /usr/lib/rabbitmq /usr/local -name rabbit.schema 2>/dev/null | head -1)
  [ -n "$schema" ] || { echo "no rabbit.schema: is RabbitMQ installed?"; return 1; }
  sed -n 's/^\([a-z][a-z_.]*\) = .*/\1/p' deploy/servers/rabbitmq.conf | while read -r key; do
    grep -qF "{mapping, \"$key\"," "$schema" || echo "not in RabbitMQ's schema: $key"
  done | { ! grep .; }
}

# The file holds one list of Erlang, as RabbitMQ reads it.
rabbitmq_advanced_settings() {
  erl -noshell -eval '
    case file:consult("deploy/servers/rabbitmq-advanced.config") of
      {ok, [[_ | _]]} -> halt(0);
      Other -> io:format("~p~n", [Other]), halt(1)
    end.'
}

settings_hold() {
  local line variables
  while IFS= read -r line; do
    IFS=$'\t' read -ra variables <<<"$line"
    env -i "${variables[@]}" "$program" config check --config deploy/compose/postrider.toml || return 1
  done < <($venv/bin/python deploy/check_compose.py)
}

tools
check "Dockerfile (hadolint)" $venv/bin/hadolint deploy/Dockerfile
check "compose.yaml (its schema)" $venv/bin/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
check "compose.yaml (its files)" $venv/bin/python deploy/check_compose.py
check "chart (Helm and the schemas of Kubernetes)" $venv/bin/python deploy/check_chart.py
if command -v systemd-analyze >/dev/null; then
  check "unit (systemd)" unit
else
  echo "    unit (systemd): not checked, there is no systemd-analyze"
fi
check "redis.conf (redis-server)" redis_settings
check "postgresql.conf (postgres)" postgres_settings
check "rabbitmq.conf (RabbitMQ's schema)" rabbitmq_settings
check "rabbitmq-advanced.config (Erlang)" rabbitmq_advanced_settings
check "alerts (their runbook and cases)" $venv/bin/python deploy/check_alerts.py
check "dashboards (what generate.py writes)" python3 deploy/grafana/generate.py --check
check "alerts (promtool check)" promtool check rules deploy/prometheus/rules.yml
check "prometheus.yml (promtool check)" promtool check config deploy/prometheus/prometheus.yml
check "alerts (promtool test)" promtool test rules deploy/prometheus/rules_test.yml deploy/prometheus/rules_days_test.yml
if [ -n "$program" ]; then
  check "settings (postrider config check)" settings_hold
fi
exit $failed
