#!/bin/sh
# Push a staged rollout of a published release and wait for it, with curl and jq:
#   push-curl.sh RELEASE FLEET
# FLEETI_SERVER and FLEETI_TOKEN_FILE name the server and a file with an API token. The token is in
# no argument, where other users could read it.
set -eu
api() { printf 'Authorization: Bearer %s' "$(cat "$FLEETI_TOKEN_FILE")" | curl --fail-with-body -sS -H @- "$FLEETI_SERVER/api/v1/$@"; }
wave() { echo "{\"size\": {\"type\": \"percent\", \"percent\": $1}}"; }
id=$(api rollouts --json "{\"release\": \"$1\", \"fleet\": \"$2\", \"plan\": {\"waves\": [$(wave 1), $(wave 10), $(wave 100)]}}" | jq -er .id)
while phase=$(api "rollouts/$id?limit=1" | jq -er .phase) || exit 1; do
    case $phase in
        succeeded) echo "$1 runs in $2" && exit 0 ;;
        paused | failed | aborted) echo "$1 is $phase in $2" >&2 && exit 1 ;;
    esac
    sleep 2
done
