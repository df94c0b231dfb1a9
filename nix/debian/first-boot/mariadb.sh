#!/bin/sh
# Makes the system tables of MariaDB, which contain times.
set -eu
test -e /var/lib/mysql/mysql && exit 0
install -d -o mysql -g mysql -m 0755 /var/lib/mysql
exec mariadb-install-db --rpm --user=mysql --skip-test-db --auth-root-authentication-method=socket
