#!/usr/bin/env bash
# A run on a GKE cluster that xpk manages: xpk queues it, restarts it and shows it.
#
#   docker build -t IMAGE -f experiments/launch/Dockerfile . && docker push IMAGE
#   xpk.sh --name NAME --cluster CLUSTER --zone ZONE --type v5litepod-16 --image IMAGE \
#       -- python experiments/sac.py --out gs://BUCKET/RUN ...
#
# --restarts N (10) after failures and preemptions; --project as for gcloud; --dry-run prints the
# command instead of running it.
set -euo pipefail
# shellcheck source=experiments/launch/common.sh
source "$(dirname "$0")/common.sh"

flags[restarts]=10
parse "name cluster zone type image restarts project" "" "$@"
need name '[a-z]([a-z0-9-]*[a-z0-9])?' my-run
need cluster '[a-z]([a-z0-9-]*[a-z0-9])?' my-cluster
need zone '[a-z]+-[a-z]+[0-9]+-[a-z]' us-central2-b
need type 'v[0-9]+[a-z]*-[0-9]+' v5litepod-16
need image '[^ ]+' gcr.io/PROJECT/jaxrl
need restarts '[0-9]+' 10
need_command
run xpk workload create --workload "${flags[name]}" --cluster "${flags[cluster]}" \
    --zone "${flags[zone]}" ${flags[project]:+--project "${flags[project]}"} \
    --tpu-type "${flags[type]}" --docker-image "${flags[image]}" \
    --max-restarts "${flags[restarts]}" \
    --command "$(quoted "${command[@]}") --processes.count -1"
