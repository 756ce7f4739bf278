#!/usr/bin/env bash
# A Cloud TPU, one host or a slice of many: create it, install on all hosts, run on all hosts.
#
#   tpu.sh create  --name NAME --zone ZONE --type v5litepod-16 --version v2-alpha-tpuv5-lite [--spot]
#   tpu.sh install --name NAME --zone ZONE
#   tpu.sh run     --name NAME --zone ZONE -- python experiments/sac.py --out gs://BUCKET/RUN ...
#   tpu.sh delete  --name NAME --zone ZONE
#
# Every host runs the same command; JAX finds the others by --processes.count -1, which is added.
# --project PROJECT where it is not gcloud's default; --extras tpu,gcs are installed;
# --dry-run prints the commands instead of running them.
set -euo pipefail
# shellcheck source=experiments/launch/common.sh
source "$(dirname "$0")/common.sh"

tpu() { # tpu VERB ARGUMENTS...
    local verb=$1
    shift
    run gcloud compute tpus tpu-vm "$verb" "$@" --zone="${flags[zone]}" \
        ${flags[project]:+--project="${flags[project]}"}
}

create() {
    need type 'v[0-9]+[a-z]*-[0-9]+' v5litepod-16
    need version '[a-z0-9.-]+' v2-alpha-tpuv5-lite
    tpu create "${flags[name]}" --accelerator-type="${flags[type]}" \
        --version="${flags[version]}" ${flags[spot]:+--spot}
}

install() {
    bundle
    tpu scp "$bundled" "$(dirname "$0")/host.sh" "${flags[name]}:" --worker=all
    on_all "bash host.sh install ${flags[extras]}"
}

on_all() { # on_all COMMAND: by every host at once
    tpu ssh "${flags[name]}" --worker=all --ssh-flag="-o ServerAliveInterval=30" --command="$1"
}

main() {
    local action=${1:---help}
    [[ $action =~ ^(create|install|run|delete)$ ]] || [[ $action == -* ]] ||
        fail "found '$action', expected create, install, run or delete"
    [[ $action == -* ]] || shift
    flags[extras]=tpu,gcs
    parse "name zone type version project extras" "spot" "$@"
    need name '[a-z]([a-z0-9-]*[a-z0-9])?' my-tpu
    need zone '[a-z]+-[a-z]+[0-9]+-[a-z]' us-central2-b
    need extras '[a-z,]+' tpu,gcs
    case $action in
        create) create ;;
        install) install ;;
        run) need_command && on_all "bash host.sh run 0 $(quoted "${command[@]}") --processes.count -1" ;;
        delete) tpu delete "${flags[name]}" --quiet ;;
        *) usage ;;
    esac
}

main "$@"
