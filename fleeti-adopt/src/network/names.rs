//! DNS, time, proxy and `/etc/hosts`.

use super::extend;
use crate::draft::{Draft, count};
use crate::ini::{section, sections, variable};
use crate::note::Area;
use crate::snapshot::Snapshot;
use fleeti_core::profile::{Dhcp, OverTls};

pub(super) fn adopt(snapshot: &Snapshot, draft: &mut Draft) {
    resolver(snapshot, draft);
    resolved(snapshot, draft);
    time(snapshot, draft);
    proxy(snapshot, draft);
    hosts(snapshot, draft);
}

/// `/etc/resolv.conf`, where no interface gets it from DHCP.
fn resolver(snapshot: &Snapshot, draft: &mut Draft) {
    let text = snapshot.text("/etc/resolv.conf").unwrap_or_default();
    let interfaces = &draft.profile.network.interfaces;
    let is_static = !interfaces.is_empty()
        && interfaces.iter().all(|i| matches!(i.dhcp, Dhcp::No) && i.dns.is_empty());
    if !is_static || text.contains("127.0.0.53") {
        return;
    }
    let of = |name: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix(name));
        lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
    };
    let dns = &mut draft.profile.network.dns;
    extend(&mut dns.servers, of("nameserver "));
    extend(&mut dns.search, of("search "));
}

/// The texts of a file of systemd and of its drop-ins.
fn texts<'a>(
    snapshot: &'a Snapshot,
    path: &'a str,
    folder: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let single = snapshot.text(path).map(|text| (path, text));
    single.into_iter().chain(snapshot.texts(folder, ".conf"))
}

fn resolved(snapshot: &Snapshot, draft: &mut Draft) {
    let folder = "/etc/systemd/resolved.conf.d";
    for (path, text) in texts(snapshot, "/etc/systemd/resolved.conf", folder) {
        draft.handle(path);
        let sections = sections(text);
        let Some(resolve) = section(&sections, "Resolve") else { continue };
        let dns = &mut draft.profile.network.dns;
        let mut rest = Vec::new();
        for (name, value) in &resolve.settings {
            let words = || value.split_whitespace().map(str::to_owned);
            match (name.as_str(), value.as_str()) {
                ("DNS", _) => extend(&mut dns.servers, words()),
                ("Domains", _) => {
                    extend(&mut dns.search, words().filter(|domain| !domain.starts_with('~')));
                }
                ("DNSOverTLS", "yes" | "true") => dns.over_tls = OverTls::Yes,
                ("DNSOverTLS", "opportunistic") => dns.over_tls = OverTls::Opportunistic,
                ("DNSSEC", "yes" | "true") => dns.dnssec = true,
                ("DNSOverTLS" | "DNSSEC", "no" | "false" | "allow-downgrade") => {}
                (name, _) => rest.push(name),
            }
        }
        if !rest.is_empty() {
            let why = format!("settings are not taken: {}", rest.join(", "));
            draft.not_taken(Area::Network, path, &why, "");
        }
    }
}

fn time(snapshot: &Snapshot, draft: &mut Draft) {
    let folder = "/etc/systemd/timesyncd.conf.d";
    for (path, text) in texts(snapshot, "/etc/systemd/timesyncd.conf", folder) {
        draft.handle(path);
        let sections = sections(text);
        let Some(time) = section(&sections, "Time") else { continue };
        let servers = time.all("NTP").flat_map(str::split_whitespace).map(str::to_owned);
        extend(&mut draft.profile.network.time.servers, servers);
    }
}

fn proxy(snapshot: &Snapshot, draft: &mut Draft) {
    let Some(text) = snapshot.text("/etc/environment") else { return };
    let get = |names: &[&str]| names.iter().find_map(|name| variable(text, name));
    let url = get(&["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"]);
    let Some(url) = url.filter(|url| !url.is_empty()) else { return };
    if url.contains('@') {
        let why = "the proxy has a password; an image is not secret";
        let next = "use a proxy that needs none";
        return draft.not_taken(Area::Secrets, "/etc/environment", why, next);
    }
    let except = get(&["no_proxy", "NO_PROXY"]).unwrap_or_default();
    let proxy = &mut draft.profile.network.proxy;
    proxy.url = Some(url.trim_end_matches('/').to_owned());
    let hosts = except.split(',').map(str::trim).filter(|host| !host.is_empty());
    proxy.except = hosts.map(str::to_owned).collect();
}

/// Entries of `/etc/hosts` besides those that every Debian has.
fn hosts(snapshot: &Snapshot, draft: &mut Draft) {
    let path = "/etc/hosts";
    draft.handle(path);
    let text = snapshot.text(path).unwrap_or_default();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_usual = |line: &&str| {
        ["#", "127.", "::1", "fe00::", "ff00::", "ff02::"].iter().any(|of| line.starts_with(of))
    };
    let own = lines.filter(|line| !is_usual(line)).count();
    if own > 0 {
        let own = count(own, "own entry", "own entries");
        let why = format!("{own}; a device has only its own name there");
        draft.not_taken(Area::Network, path, &why, "use DNS");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_times_and_proxies_are_taken_and_a_password_is_not() {
        let snapshot = Snapshot::default()
            .with(
                "/etc/systemd/resolved.conf",
                "[Resolve]\nDNS=192.0.2.53\nDNSOverTLS=yes\nCache=no\n",
            )
            .with(
                "/etc/systemd/timesyncd.conf.d/a.conf",
                "[Time]\nNTP=ntp.example.com ntp2.example.com\n",
            )
            .with(
                "/etc/environment",
                "PATH=\"/x\"\nhttp_proxy=http://proxy:3128/\nno_proxy=localhost, .example.com\n",
            )
            .with("/etc/hosts", "127.0.0.1 localhost\n192.0.2.9 db\n::1 x\n");
        let mut draft = crate::draft::made();
        adopt(&snapshot, &mut draft);
        let network = &draft.profile.network;
        assert_eq!(network.dns.servers, ["192.0.2.53"]);
        assert_eq!(network.dns.over_tls, OverTls::Yes);
        assert_eq!(network.time.servers, ["ntp.example.com", "ntp2.example.com"]);
        assert_eq!(network.proxy.url.as_deref(), Some("http://proxy:3128"));
        assert_eq!(network.proxy.except, ["localhost", ".example.com"]);
        assert_eq!(draft.notes.len(), 2);

        let snapshot =
            Snapshot::default().with("/etc/environment", "http_proxy=http://u:hunter22@p:1\n");
        let mut draft = crate::draft::made();
        adopt(&snapshot, &mut draft);
        assert_eq!(draft.profile.network.proxy.url, None);
        assert!(draft.notes.len() == 1 && !format!("{:?}", draft.notes).contains("hunter22"));
    }

    #[test]
    fn name_servers_of_dhcp_are_left_to_dhcp() {
        let snapshot = Snapshot::default()
            .with("/etc/resolv.conf", "search x.example\nnameserver 192.0.2.1\n");
        let mut draft = crate::draft::made();
        draft.profile.network.interfaces.push(super::super::interface("ens3"));
        adopt(&snapshot, &mut draft);
        assert_eq!(draft.profile.network.dns.servers, ["192.0.2.1"]);
        let mut draft = crate::draft::made();
        draft.profile.network.interfaces.push(super::super::interface("ens3"));
        draft.profile.network.interfaces[0].dhcp = Dhcp::Ipv4;
        adopt(&snapshot, &mut draft);
        assert!(draft.profile.network.dns.servers.is_empty());
    }
}
