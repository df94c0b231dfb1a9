#!/bin/sh
# Makes a configuration of wpa_supplicant (wpa_supplicant.conf(5)) from the Wi-Fi networks of the
# profile and the secrets of the boot. A network whose passphrase is missing or wrong is left out.
# usage: wifi.sh NETWORKS SECRETS
#   NETWORKS: a line for each network: SSID in hexadecimal, priority, 1 if hidden, security, secret or -
#   SECRETS: the folder with a file for each secret
set -eu
export LC_ALL=C

# Prints the passphrase in the file $1: one line without control characters, of 8 to 63 bytes.
passphrase() {
	[ -f "$1" ] || return 1
	value=$(cat "$1")
	case $value in *[[:cntrl:]]*) return 1 ;; esac
	[ ${#value} -ge 8 ] && [ ${#value} -le 63 ] || return 1
	printf '%s' "$value"
}

# Prints the settings of the security $1 with the secret $2. Protected management frames
# (IEEE 802.11w) are required by WPA3 and used with WPA2 where there are some.
settings() {
	case $1 in
	open)
		printf '\tkey_mgmt=NONE\n'
		;;
	wpa2)
		value=$(passphrase "$2") || return 1
		printf '\tproto=RSN\n\tkey_mgmt=WPA-PSK WPA-PSK-SHA256\n\tieee80211w=1\n\tpsk="%s"\n' "$value"
		;;
	wpa3)
		value=$(passphrase "$2") || return 1
		printf '\tproto=RSN\n\tkey_mgmt=SAE\n\tieee80211w=2\n\tsae_password="%s"\n' "$value"
		;;
	*)
		return 1
		;;
	esac
}

# WPA3 finds the password element by hash-to-curve where the access point can.
echo 'sae_pwe=2'
while read -r ssid priority hidden security secret; do
	if text=$(settings "$security" "$2/$secret"); then
		printf 'network={\n\tssid=%s\n\tpriority=%s\n\tscan_ssid=%s\n%s\n}\n' "$ssid" "$priority" "$hidden" "$text"
	else
		echo "the network $ssid is left out: its passphrase is missing, or is not one line of 8 to 63 bytes" >&2
	fi
done <"$1"
