#!/usr/bin/env bash
# A run on a spot TPU that may be taken away at any time: queue for one, run, and when it is gone
# queue again and run the same command, which goes on from its last checkpoint in the bucket.
#
#   spot.sh --name NAME --zone ZONE --type v5litepod-16 --version v2-alpha-tpuv5-lite \
#       -- python experiments/sac.py --out gs://BUCKET/RUN ...
#
# Ends when the command does: with 0, or with 2 where its flags are wrong, or with its status after
# --restarts (3) failures that were no preemption. The TPU is deleted in each of these cases. Keep it
# running where the connection is good: in tmux, or on a small machine in the same zone.
# --poll SECONDS (30) between two looks; --on-demand queues for a TPU that stays; --project, --extras
# and --dry-run, which prints one round, as for tpu.sh.
set -euo pipefail
# shellcheck source=experiments/launch/common.sh
source "$(dirname "$0")/common.sh"

queued() { # queued VERB ARGUMENTS...
    local verb=$1
    shift
    gcloud compute tpus queued-resources "$verb" "${flags[name]}" "$@" --zone="${flags[zone]}" \
        ${flags[project]:+--project="${flags[project]}"}
}

create() {
    local tier=(--spot)
    [[ ! ${flags[on-demand]:-} ]] || tier=()
    echo "queueing for ${flags[type]}" >&2
    queued create --node-id="${flags[name]}" --accelerator-type="${flags[type]}" \
        --runtime-version="${flags[version]}" "${tier[@]}"
}

delete() {
    queued delete --force --quiet
}

state() { # of the request; ABSENT where there is none, UNKNOWN where nobody answers
    local said
    if said=$(queued describe --format='value(state.state)' 2>&1); then
        echo "${said##*$'\n'}"
    elif [[ $said == *NOT_FOUND* ]]; then
        echo ABSENT
    else
        echo "${said##*$'\n'}" >&2
        echo UNKNOWN
    fi
}

tpu() { # tpu ACTION ARGUMENTS...: on the hosts of the TPU
    local action=$1
    shift
    "$(dirname "$0")/tpu.sh" "$action" --name "${flags[name]}" --zone "${flags[zone]}" \
        ${flags[project]:+--project "${flags[project]}"} \
        ${flags[extras]:+--extras "${flags[extras]}"} ${flags[dry-run]:+--dry-run} "$@"
}

play() { # one attempt on a TPU that is there
    tpu install && tpu run -- "${command[@]}"
}

finish() { # finish STATUS
    delete || echo "error: ${flags[name]} could not be deleted, and costs money" >&2
    exit "$1"
}

attend() { # until the command has ended
    local failures=0 status now
    trap 'echo "stopped watching; ${flags[name]} stays until it is deleted" >&2; exit 130' INT TERM
    while true; do
        now=$(state)
        case $now in
            ABSENT) create ;;
            SUSPENDED | FAILED)
                echo "$now: deleting the request" >&2
                delete || sleep "${flags[poll]}"
                ;;
            ACTIVE)
                status=0
                play || status=$?
                ((status == 0 || status == 2)) && finish "$status"
                if [[ $(state) == ACTIVE ]]; then
                    ((++failures > flags[restarts])) && finish "$status"
                    echo "ended with $status; restart $failures of ${flags[restarts]}" >&2
                fi
                ;;
            *) sleep "${flags[poll]}" ;; # on its way, going, or nobody answers
        esac
    done
}

main() {
    flags[restarts]=3 flags[poll]=30
    parse "name zone type version project extras restarts poll" "on-demand" "$@"
    need name '[a-z]([a-z0-9-]*[a-z0-9])?' my-tpu
    need zone '[a-z]+-[a-z]+[0-9]+-[a-z]' us-central2-b
    need type 'v[0-9]+[a-z]*-[0-9]+' v5litepod-16
    need version '[a-z0-9.-]+' v2-alpha-tpuv5-lite
    need restarts '[0-9]+' 3
    need poll '[0-9]+(\.[0-9]+)?' 30
    need_command
    [[ " ${command[*]} " =~ \ --out[\ =]gs://[^/\ ]+/[^\ ]+ ]] ||
        fail "command: expected --out gs://BUCKET/RUN, since the hosts' disks go with the TPU"
    if [[ ${flags[dry-run]:-} ]]; then
        gcloud() { quoted gcloud "$@"; }
        create && play && delete
    else
        attend
    fi
}

main "$@"
