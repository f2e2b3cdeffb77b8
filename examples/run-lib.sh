# What the run scripts share; source it. A script that does gets:
#
#   install_python DIR        makes DIR/.venv from requirements.txt of the example
#   install_node DIR          makes DIR/node_modules from package-lock.json of the example
#   start NAME COMMAND...     starts a process of the example; when the script ends, all of them end, the last first
#   wait_for NAME URL         waits until URL answers
#   run_soloist               starts Soloist on the example's soloist.toml
#   until_one_ends            waits until a process ends, or somebody ends the script
#
# and the variables `example` (its folder), `env` (where it installs), `endpoint` and `soloist` (two URLs).
# shellcheck shell=bash disable=SC2034

example=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
env=${EXAMPLE_ENV:-$example}
soloist_port=${SOLOIST_PORT:-8888}
soloist_bin=${SOLOIST_BIN:-$repository/target/release/soloist}
# soloist.toml reads it.
export ENDPOINT_PORT=${ENDPOINT_PORT:-9000}
endpoint=http://127.0.0.1:$ENDPOINT_PORT
soloist=http://127.0.0.1:$soloist_port
# To the server a variable SOLOIST_... is a key of its configuration; these two are not.
unset SOLOIST_PORT SOLOIST_BIN

# Every process gets a group of its own: Ctrl-C reaches this script alone, which ends them in order.
set -m
names=() pids=()
scratch=

finish() {
  local status=$? index
  trap '' INT TERM HUP
  trap - EXIT
  # What bash has to say of ended jobs is of no use to anybody.
  exec 2>/dev/null
  for ((index = ${#pids[@]} - 1; index >= 0; index--)); do
    end "${pids[index]}"
  done
  if [[ -n $scratch ]]; then rm -rf "$scratch"; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Asks a process to stop, and kills what is left of its group after five seconds.
end() {
  kill -TERM "$1" 2>/dev/null || true
  for ((tries = 0; tries < 50; tries++)); do
    kill -0 "$1" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL -- "-$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

start() {
  local name=$1
  shift
  "$@" </dev/null &
  names+=("$name") pids+=("$!")
}

# Runs a command to its end; unlike a plain command, a signal to this script ends it at once.
attend() {
  local status=0
  start "$1" "$@"
  wait "${pids[-1]}" || status=$?
  unset "pids[-1]" "names[-1]"
  return "$status"
}

# What an installation is made from, told in one line: where it changes, the installation is made anew.
stamp_of() {
  cat "$@" | sha256sum
}

install_python() {
  local stamp venv=$1/.venv
  stamp=$(python3 --version | stamp_of - "$example/requirements.txt")
  if [[ -e $venv/stamp && $(<"$venv/stamp") = "$stamp" ]]; then return; fi
  echo "installing into $venv"
  rm -rf "$venv"
  attend python3 -m venv "$venv"
  attend "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes \
    --requirement "$example/requirements.txt"
  echo "$stamp" >"$venv/stamp"
}

install_node() {
  local stamp modules=$1/node_modules
  stamp=$(node --version | stamp_of - "$example/package-lock.json")
  if [[ -e $modules/stamp && $(<"$modules/stamp") = "$stamp" ]]; then return; fi
  echo "installing into $modules"
  mkdir -p "$1"
  if [[ ! $1 -ef $example ]]; then cp "$example/package.json" "$example/package-lock.json" "$1"; fi
  attend npm --prefix "$1" ci --ignore-scripts --no-audit --no-fund
  echo "$stamp" >"$modules/stamp"
}

wait_for() {
  for ((tries = 0; tries < 300; tries++)); do
    if curl --silent --fail --output /dev/null --max-time 2 "$2"; then return; fi
    if ! kill -0 "${pids[-1]}" 2>/dev/null; then
      echo "$1 has ended" >&2
      exit 1
    fi
    sleep 0.1
  done
  echo "$1 does not answer at $2" >&2
  exit 1
}

run_soloist() {
  local data=${EXAMPLE_DATA:-}
  if [[ ! -x $soloist_bin ]]; then
    attend cargo build --release --locked --package soloist-cli --manifest-path "$repository/Cargo.toml"
  fi
  if [[ -z $data ]]; then
    scratch=$(mktemp -d)
    data=$scratch
  fi
  mkdir -p "$data"
  start Soloist "$soloist_bin" serve --config "$example/soloist.toml" --listen "127.0.0.1:$soloist_port" \
    --store "sqlite://$data/soloist.db" --shutdown-grace-seconds 2
  wait_for Soloist "$soloist/health/ready"
  cat <<EOF

  open $endpoint/
  or   curl -N -H 'Content-Type: application/json' -d '{"prompt":"Hello"}' '$soloist/stream/chat/Reply/hello?format=raw'
       $soloist/stream/chat/Reply/hello (in as many tabs as you like)
  Ctrl-C ends it.

EOF
}

until_one_ends() {
  local ended status=0 index
  wait -n -p ended "${pids[@]}" || status=$?
  for index in "${!pids[@]}"; do
    if [[ ${pids[index]} = "${ended:-}" ]]; then echo "${names[index]} has ended (status $status)" >&2; fi
  done
  exit "$((status == 0 ? 1 : status))"
}
