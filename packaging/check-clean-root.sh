#!/bin/sh
# Runs in a clean Debian root: installs a previous version and uses it, upgrades, removes and purges.
# /debs/old and /debs/new hold the packages; API, HTTPS and MQTT are free ports of this machine.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 HOME=/root XDG_CONFIG_HOME=/root/.config
umask 022

passed() { echo "clean root: $1"; }
failed() { echo "clean root: FAILED: $1" >&2; exit 1; }
install() { apt-get install -y -qq --no-install-recommends "$@" > /tmp/said 2>&1 || { cat /tmp/said >&2; failed "apt-get install $*"; }; }
is() { [ "$(stat -c '%U:%G %a' "$2")" = "$1" ] || failed "$2 is $(stat -c '%U:%G %a' "$2"), expected $1"; }
absent() { [ ! -e "$1" ] && [ ! -L "$1" ] || failed "$1 is still there"; }
as() { user=$1; shift; setpriv --reuid "$user" --regid "$user" --init-groups --no-new-privs "$@"; }
# For the background: the shell replaces itself, so that its process can be ended.
serve_as() { user=$1; shift; exec setpriv --reuid "$user" --regid "$user" --init-groups --no-new-privs "$@"; }
until_true() { for _ in $(seq 150); do "$@" > /dev/null 2>&1 && return 0; sleep 0.2; done; return 1; }

# The services, as their units start them: this root has no systemd that runs.
serve() {
    install_run fleeti-signer
    serve_as fleeti-signer env FLEETI_PASSPHRASE_FILE=/run/fleeti-signer/passphrase fleeti-signer \
        --pki /var/lib/fleeti-signer/pki --log /var/lib/fleeti-signer/audit \
        --socket /run/fleeti-signer/socket --server-user fleeti > /tmp/signer.log 2>&1 &
    signer=$!
    until_true test -S /run/fleeti-signer/socket || { cat /tmp/signer.log; failed "the signing service does not start"; }
    serve_as fleeti fleeti-server --data /var/lib/fleeti --signer /run/fleeti-signer/socket \
        --api "127.0.0.1:$API" --https "127.0.0.1:$HTTPS" --mqtt "127.0.0.1:$MQTT" > /tmp/server.log 2>&1 &
    server=$!
    until_true fleeti login "http://127.0.0.1:$API" --token-file /var/lib/fleeti/admin.token ||
        { cat /tmp/signer.log /tmp/server.log
          failed "nobody can log in: $(fleeti login "http://127.0.0.1:$API" --token-file /var/lib/fleeti/admin.token 2>&1)"; }
}
install_run() {
    mkdir -p "/run/$1" && chown "$1:$1" "/run/$1" && chmod 0750 "/run/$1"
    cp /tmp/passphrase "/run/$1/passphrase" && chown "$1:$1" "/run/$1/passphrase" && chmod 0400 "/run/$1/passphrase"
}
stop() {
    for process in ${server-} ${signer-}; do
        kill "$process" 2> /dev/null && wait "$process" || true
    done
    server='' signer=''
    rm -f /run/fleeti-signer/socket
}
trap stop EXIT

install /debs/old/*.deb
for said in 'fleeti pki init pki' 'fleeti-install-keys pki' /var/lib/fleeti/first-admin.link http://127.0.0.1:8080; do
    grep -qF "$said" /tmp/said || { cat /tmp/said; failed "the installation does not say $said"; }
done
is 'fleeti:fleeti 710' /var/lib/fleeti
is 'fleeti:fleeti 700' /var/lib/fleeti/pki
is 'fleeti-signer:fleeti-signer 700' /var/lib/fleeti-signer
is 'fleeti-signer:fleeti-signer 700' /var/lib/fleeti-signer/pki
is 'fleeti-worker:fleeti-worker 755' /nix/store
is 'root:root 755' /etc/fleeti
for file in server signer worker; do is 'root:root 644' "/etc/fleeti/$file.conf"; done
for unit in fleeti-server fleeti-signer fleeti-worker; do
    [ -L "/etc/systemd/system/multi-user.target.wants/$unit.service" ] || failed "$unit is not enabled"
done
systemd-analyze verify --man=no /usr/lib/systemd/system/fleeti-*.service 2> /tmp/said ||
    { cat /tmp/said; false; } || failed "systemd finds an error in a unit"
passed "the previous version is installed, with its users, folders and modes"

fleeti-install-keys /tmp/none 2> /tmp/said && failed "keys that do not exist were installed"
grep -q 'hint: make keys' /tmp/said || failed "unexpected: $(cat /tmp/said)"
echo 'correct horse battery staple' > /tmp/passphrase
FLEETI_PASSPHRASE_FILE=/tmp/passphrase fleeti pki init /tmp/pki > /dev/null
fleeti-install-keys /tmp/pki --passphrase-file /tmp/passphrase --with-key host > /tmp/said || failed "fleeti-install-keys"
grep -q 'move /tmp/pki/offline' /tmp/said || failed "unexpected: $(cat /tmp/said)"
is 'fleeti-signer:fleeti-signer 600' /var/lib/fleeti-signer/pki/online/audit.key
is 'fleeti:fleeti 600' /var/lib/fleeti/pki/public/root.pem
is 'root:root 600' /etc/fleeti/passphrase.cred
absent /var/lib/fleeti/pki/online
as fleeti ls /var/lib/fleeti-signer/pki > /dev/null 2>&1 && failed "the server reads the keys"
fleeti-install-keys /tmp/pki --passphrase-file /tmp/passphrase 2> /tmp/said && failed "keys were overwritten"
grep -q 'exists already' /tmp/said || failed "unexpected: $(cat /tmp/said)"
[ "$(systemd-creds decrypt --name=fleeti-passphrase /etc/fleeti/passphrase.cred -)" = "$(cat /tmp/passphrase)" ] ||
    failed "the passphrase cannot be decrypted"
passed "keys are installed, each for its user, and never over others"

serve
fleeti user add alice --role operator > /dev/null
is 'fleeti:fleeti 600' /var/lib/fleeti/first-admin.link
stop
echo 'FLEETI_OPTIONS=--name fleet.test' >> /etc/fleeti/server.conf
systemctl disable fleeti-worker.service 2> /dev/null
install /debs/new/*.deb
grep -q 'fleeti pki init' /tmp/said && failed "an upgrade explains how to begin"
[ "$(dpkg-query -W -f '${Version}' fleeti-server)" = "$VERSION" ] || failed "the upgrade installed another version"
grep -q fleet.test /etc/fleeti/server.conf || failed "the upgrade changed server.conf"
[ ! -L /etc/systemd/system/multi-user.target.wants/fleeti-worker.service ] || failed "a disabled unit was enabled"
serve
fleeti user list > /tmp/said; grep -q alice /tmp/said || failed "data of the previous version are gone"
stop
passed "an upgrade keeps data, configuration and a disabled service, and the server runs on"

apt-get remove -y -qq 'fleeti*' > /dev/null 2>&1
absent /usr/bin/fleeti-server
absent /usr/lib/systemd/system/fleeti-server.service
[ -s /var/lib/fleeti/fleeti.db ] && [ -s /var/lib/fleeti-signer/pki/online/audit.key ] || failed "data are gone"
grep -q fleet.test /etc/fleeti/server.conf || failed "configuration is gone"
install /debs/new/*.deb
serve
fleeti user list > /tmp/said; grep -q alice /tmp/said || failed "data are gone after a reinstallation"
stop
[ -L /etc/systemd/system/multi-user.target.wants/fleeti-server.service ] || failed "the reinstalled server is not enabled"
passed "removal keeps data and configuration, and a reinstallation finds them"

apt-get purge -y -qq 'fleeti*' > /dev/null 2>&1
left=$(find / -xdev -path /debs -prune -o -path /proc -prune -o -path /tmp -prune -o -path /root -prune -o \
    -path /run -prune -o -name '*fleeti*' -print)
[ -z "$left" ] || failed "a purge leaves $left"
absent /etc/fleeti
getent passwd fleeti > /dev/null || failed "a purge deletes users, whose numbers others would get"
passed "a purge leaves nothing but users"
