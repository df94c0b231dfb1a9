#!/bin/sh
# Makes the table of mail aliases, which contains a time.
set -eu
cp /etc/aliases /run/fleeti-postfix/aliases
exec postalias /run/fleeti-postfix/aliases
