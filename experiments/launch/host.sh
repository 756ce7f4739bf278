#!/usr/bin/env bash
# What the other scripts have a host do. It runs there, in the home directory.
#
#   host.sh install EXTRAS         unpack jaxrl.bundle, install it with extras of pyproject.toml
#   host.sh run LABEL COMMAND...   end what an earlier start of LABEL left, then run the command
set -euo pipefail
cd

install() {
    local file
    for file in run.*.pid; do end_earlier "$file"; done # before its files go
    rm -rf jaxrl
    git clone -q jaxrl.bundle jaxrl
    cd jaxrl
    python3 -m pip install -q --user uv # brings a newer Python where the image has an old one
    python3 -m uv venv -q --python 3.11 .venv
    python3 -m uv pip install -q -r requirements.txt
    python3 -m uv pip install -q -e ".[$1]"
}

ours() { # ours PID: the process runs in our checkout, as no other that got the number would
    [[ $(readlink "/proc/$1/cwd") == "$PWD/jaxrl" ]]
}

end_earlier() { # end_earlier FILE: the process whose number is in it, if it still runs
    local pid
    pid=$(cat "$1" 2>/dev/null) || return 0
    ours "$pid" || return 0
    echo "host.sh: waiting for an earlier start to save and end" >&2
    kill "$pid" || true
    while ours "$pid"; do sleep 0.2; done
}

start() {
    local file=run.$1.pid
    shift
    end_earlier "$file"
    echo $$ >"$file"
    cd jaxrl
    export PATH="$PWD/.venv/bin:$PATH"
    exec "$@" # so that signals reach it, under the number in the file
}

case ${1:-} in
    install) install "${2:?EXTRAS}" ;;
    run) shift && start "$@" ;;
    *) echo "error: host.sh: found '${1:-}', expected install or run" >&2 && exit 2 ;;
esac
