#!/usr/bin/env bash
# Machines that ssh reaches, with one or more GPUs each, as one run.
#
#   nodes.sh install --hosts a,b [--extras gpu]
#   nodes.sh run     --hosts a,b [--gpus 8] [--port 8476] -- python experiments/sac.py --out DIR ...
#
# One process per host takes all its GPUs; with --gpus N there are N processes per host with a GPU
# each. DIR is on a disk that all share, or gs://. The first host must let the others reach --port.
# As soon as one process fails all end. --dry-run prints the commands instead of running them.
set -euo pipefail
# shellcheck source=experiments/launch/common.sh
source "$(dirname "$0")/common.sh"

install() {
    local host
    bundle
    for host in "${hosts[@]}"; do
        run scp -q "$bundled" "$(dirname "$0")/host.sh" "$host:"
        run ssh -n "$host" "bash host.sh install ${flags[extras]}"
    done
}

remote() { # remote INDEX: the command of one process
    local gpus=${flags[gpus]:-0} count index=$1 visible=""
    count=$((${#hosts[@]} * (gpus ? gpus : 1)))
    ((gpus)) && visible="CUDA_VISIBLE_DEVICES=$((index % gpus)) "
    echo "${visible}bash host.sh run $index $(quoted "${command[@]}") --processes.count $count" \
        "--processes.index $index --processes.coordinator ${hosts[0]#*@}:${flags[port]}"
}

start() { # one ssh per process; the status of the first that fails
    local gpus=${flags[gpus]:-0} index=0 host i children=() status=0
    for host in "${hosts[@]}"; do
        for ((i = 0; i < (gpus ? gpus : 1); i++, index++)); do
            if [[ ${flags[dry-run]:-} ]]; then
                quoted ssh -tt "$host" "$(remote $index)"
                continue
            fi
            ssh -tt "$host" "$(remote $index)" </dev/null & # a terminal, so that they end together
            children+=($!)
        done
    done
    for ((i = 0; i < ${#children[@]}; i++)); do
        wait -n || { status=$? && break; }
    done
    ((status)) && kill "${children[@]}" 2>/dev/null
    wait || true
    exit "$status"
}

main() {
    local action=${1:---help}
    [[ $action =~ ^(install|run)$ ]] || [[ $action == -* ]] ||
        fail "found '$action', expected install or run"
    [[ $action == -* ]] || shift
    flags[port]=8476 flags[extras]=gpu
    parse "hosts gpus port extras" "" "$@"
    need hosts '[^, ]+(,[^, ]+)*' host1,host2
    need extras '[a-z,]+' gpu,gcs
    need port '[0-9]+' 8476
    [[ ! ${flags[gpus]:-} ]] || need gpus '[1-9][0-9]*' 8
    IFS=, read -ra hosts <<<"${flags[hosts]}"
    case $action in
        install) install ;;
        run) need_command && start ;;
        *) usage ;;
    esac
}

main "$@"
