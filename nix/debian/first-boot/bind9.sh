#!/bin/sh
# Makes the key by which rndc controls the name server.
set -eu
exec rndc-confgen -a -q -c /run/fleeti-bind9/rndc.key -u bind
