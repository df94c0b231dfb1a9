//! Packet filters: ufw(8) becomes rules of the profile, a ruleset of nftables stays a file.

use crate::conffile::{Conffiles, Origin};
use crate::draft::Draft;
use crate::ini::variable;
use crate::name::unused;
use crate::note::Area;
use crate::snapshot::Snapshot;
use fleeti_core::profile::{Direction, FirewallRule, Protocol, Service, UnitState};

const NFTABLES: &str = "/etc/nftables.conf";

pub(super) fn adopt(snapshot: &Snapshot, conffiles: &Conffiles<'_>, draft: &mut Draft) {
    for (path, ..) in snapshot.below("/etc/ufw") {
        draft.handle(path);
    }
    let is_on = snapshot
        .text("/etc/ufw/ufw.conf")
        .and_then(|text| variable(text, "ENABLED"))
        .is_some_and(|on| on.eq_ignore_ascii_case("yes"));
    if is_on {
        ufw(snapshot, draft);
    }
    nftables(snapshot, conffiles, draft);
    for path in ["/etc/iptables/rules.v4", "/etc/iptables/rules.v6"] {
        if snapshot.entries.contains_key(path) {
            let next = "write them as network.firewall.rules";
            draft.taken(Area::Network, path, "rules of iptables stay a file", next);
        }
    }
}

/// A ruleset that the system loads at boot.
fn nftables(snapshot: &Snapshot, conffiles: &Conffiles<'_>, draft: &mut Draft) {
    let is_loaded = snapshot
        .below("/etc/systemd/system")
        .any(|(_, rest, _)| rest.ends_with(".wants/nftables.service"));
    let Some(entry) = snapshot.entries.get(NFTABLES) else { return };
    if !is_loaded || conffiles.origin(NFTABLES, entry) == Origin::Package {
        return;
    }
    draft.install("nftables");
    if !draft.profile.services.iter().any(|service| service.name == "nftables.service") {
        draft.profile.services.push(Service {
            name: "nftables.service".to_owned(),
            state: UnitState::Enabled,
            unit: None,
            drop_ins: Vec::new(),
        });
    }
    let next = "write it as network.firewall.rules, then remove the file: the profile then names \
                the unit behind each port";
    draft.taken(Area::Network, NFTABLES, "the ruleset stays a file", next);
}

fn ufw(snapshot: &Snapshot, draft: &mut Draft) {
    draft.profile.network.firewall.enabled = true;
    for path in ["/etc/ufw/user.rules", "/etc/ufw/user6.rules"] {
        let Some(text) = snapshot.text(path) else {
            draft.not_readable(Area::Network, path);
            continue;
        };
        let tuples = text.lines().filter_map(|line| line.strip_prefix("### tuple ### "));
        for (i, tuple) in tuples.enumerate() {
            let at = format!("{path}, rule {}", i + 1);
            let words: Vec<_> = tuple.split_whitespace().collect();
            match rules(&words) {
                Ok(rules) => rules.into_iter().for_each(|rule| add(rule, &at, draft)),
                Err(why) => draft.not_taken(Area::Network, &at, why, "look at network.firewall"),
            }
        }
    }
}

/// `ACTION PROTOCOL PORTS TO SOURCE-PORT FROM [APPLICATION APPLICATION] DIRECTION [comment=…]`.
fn rules(words: &[&str]) -> Result<Vec<FirewallRule>, &'static str> {
    let words: Vec<_> =
        words.iter().copied().filter(|word| !word.starts_with("comment=")).collect();
    let (action, protocol, ports, to, from_port, from) = match words.as_slice() {
        [action, protocol, ports, to, from_port, from, .., _] => {
            (*action, *protocol, *ports, *to, *from_port, *from)
        }
        _ => return Err("is not a rule that is understood"),
    };
    let direction = words.last().copied().unwrap_or_default();
    if !["allow", "limit"].contains(&action) {
        return Err("denies something; the packet filter of a profile denies what no rule allows");
    }
    let any = ["0.0.0.0/0", "::/0"];
    if !any.contains(&to) || from_port != "any" {
        return Err("is for one of several addresses or for a source port");
    }
    let interface = match direction.split_once('_') {
        None if direction == "in" => None,
        Some(("in", interface)) => Some(interface.to_owned()),
        _ => return Err("is for outgoing or forwarded connections"),
    };
    if ports == "any" {
        return Err("opens every port; a rule of a profile names ports");
    }
    let protocols: &[Protocol] = match protocol {
        "tcp" => &[Protocol::Tcp],
        "udp" => &[Protocol::Udp],
        "any" => &[Protocol::Tcp, Protocol::Udp],
        _ => return Err("is for a protocol other than TCP and UDP"),
    };
    let from = if any.contains(&from) { Vec::new() } else { vec![network(from)] };
    let ports: Vec<_> = ports.split(',').map(|port| port.replace(':', "-")).collect();
    let rule = |protocol: &Protocol| FirewallRule {
        name: String::new(),
        direction: Direction::Incoming,
        service: None,
        protocol: *protocol,
        ports: ports.clone(),
        from: from.clone(),
        interface: interface.clone(),
    };
    Ok(protocols.iter().map(rule).collect())
}

/// An address with prefix length.
fn network(text: &str) -> String {
    match (text.contains('/'), text.contains(':')) {
        (true, _) => text.to_owned(),
        (false, true) => format!("{text}/128"),
        (false, false) => format!("{text}/32"),
    }
}

/// Ports and the units that usually listen on them.
const LISTENERS: [(&str, &[&str]); 5] = [
    ("22", &["ssh.service"]),
    ("80", &["nginx.service", "apache2.service", "caddy.service", "haproxy.service"]),
    ("443", &["nginx.service", "apache2.service", "caddy.service", "haproxy.service"]),
    ("5432", &["postgresql.service"]),
    ("3306", &["mariadb.service", "mysql.service"]),
];

/// Adds a rule, unless the same one is there for the other family of addresses.
fn add(mut rule: FirewallRule, at: &str, draft: &mut Draft) {
    let rules = &draft.profile.network.firewall.rules;
    let is_same = |other: &FirewallRule| {
        other.protocol == rule.protocol
            && other.ports == rule.ports
            && other.from == rule.from
            && other.interface == rule.interface
    };
    if rules.iter().any(is_same) {
        return;
    }
    let protocol = if rule.protocol == Protocol::Tcp { "tcp" } else { "udp" };
    let name = format!("{protocol}-{}", rule.ports.join("-"));
    rule.name = unused(&name, |name| rules.iter().any(|rule| rule.name == name));
    let services = &draft.profile.services;
    let listener = LISTENERS.iter().find(|(port, _)| rule.ports.first().is_some_and(|p| p == port));
    let unit = listener.and_then(|(_, units)| {
        units.iter().find(|unit| services.iter().any(|service| service.name == **unit))
    });
    rule.service = unit.map(|unit| (*unit).to_owned());
    draft.origin("network.firewall.rules", &rule.name, at);
    draft.profile.network.firewall.rules.push(rule);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::Installed;

    fn taken(snapshot: &Snapshot) -> Draft {
        let installed = Installed::new();
        let mut draft = crate::draft::made();
        adopt(snapshot, &Conffiles::of(snapshot, &installed), &mut draft);
        draft
    }

    #[test]
    fn rules_of_ufw_become_rules_of_the_profile() {
        let rules = "*filter\n### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in\n-A x\n\
                     ### tuple ### allow tcp 80,443 0.0.0.0/0 any 0.0.0.0/0 Nginx%20Full - in\n\
                     ### tuple ### allow any 8000:8080 0.0.0.0/0 any 192.0.2.7 in_eth0 comment=41\n\
                     ### tuple ### deny tcp 25 0.0.0.0/0 any 0.0.0.0/0 in\n";
        let snapshot = Snapshot::default()
            .with("/etc/ufw/ufw.conf", "ENABLED=yes\n")
            .with_file("/etc/ufw/user.rules", rules.as_bytes(), 0o640)
            .with("/etc/ufw/user6.rules", "### tuple ### allow tcp 22 ::/0 any ::/0 in\n");
        let draft = taken(&snapshot);
        let firewall = &draft.profile.network.firewall;
        assert!(firewall.enabled);
        let names: Vec<_> = firewall.rules.iter().map(|rule| rule.name.as_str()).collect();
        assert_eq!(names, ["tcp-22", "tcp-80-443", "tcp-8000-8080", "udp-8000-8080"]);
        assert_eq!(firewall.rules[2].from, ["192.0.2.7/32"]);
        assert_eq!(firewall.rules[2].interface.as_deref(), Some("eth0"));
        assert_eq!(draft.notes.len(), 1);
        let off = taken(&Snapshot::default().with("/etc/ufw/ufw.conf", "ENABLED=no\n"));
        assert!(!off.profile.network.firewall.enabled && off.notes.is_empty());
    }

    #[test]
    fn a_ruleset_of_nftables_is_used_only_if_it_is_loaded() {
        let snapshot = Snapshot::default().with(NFTABLES, "table inet x {}\n");
        assert!(taken(&snapshot).profile.services.is_empty());
        let snapshot =
            snapshot.with_link("/etc/systemd/system/sysinit.target.wants/nftables.service", "x");
        let draft = taken(&snapshot);
        assert_eq!(draft.profile.services[0].name, "nftables.service");
        assert!(draft.installs("nftables"));
    }
}
