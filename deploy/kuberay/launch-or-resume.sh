#!/usr/bin/env bash
# Goes on with a run if there is one of this name, and launches it otherwise: whatever has died, the same command is
# right again. It is what a RayJob runs, at its first attempt and at every other.
#
#   launch-or-resume.sh NAME STORAGE_PATH RECIPE [options of `nascluster launch`]
#
# Exit status: 0 when the run has finished, or was stopped by `nascluster stop` (which a retry must not undo); else that
# of nascluster.
set -uo pipefail
if [ $# -lt 3 ]; then
    echo "usage: launch-or-resume.sh NAME STORAGE_PATH RECIPE [options]" >&2
    exit 2
fi
name=$1 storage=$2 recipe=$3
shift 3

# "finished ", "stopped as asked", "failed its driver died", ...; nothing if there is no such run.
state() {
    nascluster status "$name" --storage-path "$storage" --json | python3 -c '
import json, sys
status = json.loads(sys.stdin.read() or "{}")
print(status.get("state", ""), status.get("message", ""))'
}

trap : TERM INT # nascluster has got the signal too: let it end the run, and say then how it ended
before=$(state)
case $before in
    "finished "*)
        echo "The run $name has finished before."
        exit 0
        ;;
    " ") nascluster launch "$recipe" --name "$name" --storage-path "$storage" "$@" ;;
    *) nascluster resume "$name" --storage-path "$storage" ;;
esac
code=$?
[ "$code" -eq 130 ] && [ "$(state)" = "stopped as asked" ] && exit 0
exit "$code"
