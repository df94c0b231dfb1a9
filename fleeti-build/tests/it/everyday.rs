//! Packages of Debian that people use every day, installed with their maintainer scripts.

use crate::{cache, request};
use fleeti_build::build;
use std::collections::BTreeMap;
use std::fs;

/// Each group becomes one image, which fits into a slot of the disk.
const GROUPS: [&[&str]; 11] = [
    &["nginx", "postgresql", "openssh-server", "sudo", "curl"],
    &["docker.io", "cron", "rsyslog", "man-db", "vim"],
    &["podman", "crun", "netavark", "aardvark-dns", "git", "tmux"],
    &["network-manager", "chrony", "cups", "avahi-daemon", "mosquitto"],
    &["samba", "fail2ban", "ufw", "python3-venv", "nfs-common"],
    &["mariadb-server", "redis-server", "haproxy", "dnsmasq"],
    &["apache2", "php-fpm", "nodejs", "unattended-upgrades", "memcached"],
    &["cage", "weston", "fonts-dejavu-core", "pipewire", "wireplumber", "seatd"],
    &["postfix", "bind9", "smartmontools", "bluez", "wireguard-tools", "prometheus-node-exporter"],
    &["rabbitmq-server", "squid", "openvpn", "snmpd", "default-jre-headless"],
    &["auditd", "apparmor", "usbguard", "libpam-pwquality", "build-essential", "gdb"],
];

#[test]
#[ignore = "long: installs hundreds of packages"]
fn everyday_packages_are_installed_with_their_scripts_and_their_owners_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let mut failed = BTreeMap::new();
    for (i, packages) in GROUPS.iter().enumerate() {
        let text = format!(
            "schema = 1\nname = \"everyday-{i}\"\narchitecture = \"x86_64\"\n\
             software.packages = {packages:?}\n"
        );
        let profile = fleeti_core::profile::check(&text).unwrap();
        let request = request(dir.path(), profile, &format!("everyday-{i}"));
        match build::run(&request, &cache(), &mut |_| {}) {
            Ok(_) => {
                let made = fs::read_to_string(request.out.join("scripts.json")).unwrap();
                assert!(made.contains("/etc/passwd"), "{packages:?}: {made}");
            }
            Err(e) => {
                failed.insert(packages.join(" "), e.to_string());
            }
        }
        fs::remove_dir_all(&request.out).unwrap();
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
