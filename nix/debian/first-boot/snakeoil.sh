#!/bin/sh
# Makes the self-signed certificate that services start with until they get their own.
set -eu
umask 077
cd /run/fleeti-snakeoil
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 3650 -subj "/CN=$(uname -n)" \
  -keyout key.pem -out certificate.pem
chgrp ssl-cert key.pem
chmod 0640 key.pem
chmod 0644 certificate.pem
