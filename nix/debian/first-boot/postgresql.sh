#!/bin/sh
# Makes the clusters that are configured and have no data: initdb writes a number by chance and times.
set -eu
for settings in /etc/postgresql/*/*/postgresql.conf; do
  cluster=${settings#/etc/postgresql/}; cluster=${cluster%/postgresql.conf}
  data=/var/lib/postgresql/$cluster
  test -e "$data/PG_VERSION" && continue
  install -d -o postgres -g postgres -m 0755 "${data%/*}"
  install -d -o postgres -g postgres -m 0700 "$data"
  runuser -u postgres -- "/usr/lib/postgresql/${cluster%/*}/bin/initdb" --pgdata="$data" --auth-local=peer \
    --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
done
