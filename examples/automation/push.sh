#!/bin/sh
# Push a staged rollout from a pipeline and wait for it, with the command line:
#   push.sh RELEASE-DIRECTORY FLEET
# FLEETI_SERVER and FLEETI_TOKEN_FILE name the server and a file with an API token.
set -eu
release=$(fleeti -o json release publish "$1" | jq -r .name)
fleeti rollout start --release "$release" --fleet "$2" \
    --wave 1 --wave 10% --wave 100% --max-errors 2% --wait
