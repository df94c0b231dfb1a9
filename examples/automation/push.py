"""Push a staged rollout from a pipeline and wait for it: push.py RELEASE-DIRECTORY FLEET

FLEETI_SERVER and FLEETI_TOKEN_FILE name the server and a file with an API token. A rollout that
stops raises an error, which ends the pipeline.
"""

import sys

import fleeti

directory, fleet = sys.argv[1:]
client = fleeti.Client.from_environment()
release = client.releases.publish_directory(directory)
plan = fleeti.planning.plan("1", "10%", "100%", errors_max="2%")
rollout = client.rollouts.start(release=release.name, fleet=fleet, plan=plan)
done = client.rollouts.wait(rollout.id, timeout_s=3600)
print(f"{done.counts.succeeded} devices of {fleet} run {done.release}")
