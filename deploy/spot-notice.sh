#!/usr/bin/env bash
# Waits until the cloud gives notice that it takes this spot machine back, and passes that on to Ray, which marks the
# node as draining: no child is begun on it any more, and those in training save their state (--checkpoint-children).
#
#   spot-notice.sh aws|gcp
#
# SPOT_METADATA: the URL of the machine's metadata service, where it is not the cloud's own (the tests have one).
set -euo pipefail
cloud=${1:-}

noticed_aws() {
    local url=${SPOT_METADATA:-http://169.254.169.254} token
    token=$(curl -sf -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$url/latest/api/token") &&
        curl -sf -m 2 -o /dev/null -H "X-aws-ec2-metadata-token: $token" "$url/latest/meta-data/spot/instance-action"
}

noticed_gcp() {
    local url=${SPOT_METADATA:-http://metadata.google.internal}
    [ "$(curl -sf -m 2 -H 'Metadata-Flavor: Google' "$url/computeMetadata/v1/instance/preempted")" = TRUE ]
}

case $cloud in
    aws) notice_s=110 every_s=5 ;; # two minutes, less what it took to hear of it
    gcp) notice_s=25 every_s=1 ;;
    *) echo "spot-notice.sh: the cloud must be aws or gcp, got '$cloud'" >&2 && exit 2 ;;
esac

until "noticed_$cloud"; do sleep "$every_s"; done
echo "$(date -Is) this machine is taken back"
ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION --reason-message "$cloud takes this spot machine back" \
    --deadline-remaining-seconds "$notice_s"
