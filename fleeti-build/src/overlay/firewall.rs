//! The packet filter: one file of rules for nft(8).

use super::entry::Additions;
use fleeti_core::profile::{Direction, Firewall, FirewallRule, HealthCheck, Profile, Protocol};

/// The file that nftables.service loads.
const PATH: &str = "/etc/nftables.conf";

pub(super) fn add(profile: &Profile, out: &mut Additions) {
    let firewall = &profile.network.firewall;
    if firewall.enabled {
        out.text(PATH, 0o755, ruleset(firewall));
        out.presets.push("enable nftables.service".to_owned());
    }
}

/// A device whose rules do not load would be open: its image must not be kept.
pub(super) fn health_check(profile: &Profile) -> Option<HealthCheck> {
    profile.network.firewall.enabled.then(HealthCheck::of_packet_filter)
}

/// The rules, in a table of their own: loading them again does not touch those of other programs.
/// ICMP and ICMPv6 are 1 and 58, because an image need not have the names of protocols.
fn ruleset(firewall: &Firewall) -> String {
    let of = |direction: Direction| {
        firewall.rules.iter().filter(move |rule| rule.direction == direction).flat_map(lines)
    };
    let mut text = "#!/usr/sbin/nft -f\ntable inet fleeti\ndelete table inet fleeti\n\n\
                    table inet fleeti {\n\tchain input {\n\
                    \t\ttype filter hook input priority filter; policy drop;\n\
                    \t\tct state established,related accept\n\
                    \t\tct state invalid drop\n\
                    \t\tiif lo accept\n\
                    \t\tmeta l4proto { 1, 58 } accept\n\
                    \t\tmeta nfproto ipv4 udp sport 67 udp dport 68 accept\n\
                    \t\tip6 saddr fe80::/10 udp sport 547 udp dport 546 accept\n"
        .to_owned();
    of(Direction::Incoming).for_each(|line| text.push_str(&line));
    text.push_str("\t}\n");
    let mut forward = of(Direction::Forward).peekable();
    // Without a rule for it nothing that passes through is filtered: containers have own rules.
    if forward.peek().is_some() {
        text.push_str(
            "\n\tchain forward {\n\
             \t\ttype filter hook forward priority filter; policy drop;\n\
             \t\tct state established,related accept\n\
             \t\tct state invalid drop\n\
             \t\tmeta l4proto { 1, 58 } accept\n",
        );
        forward.for_each(|line| text.push_str(&line));
        text.push_str("\t}\n");
    }
    text + "}\n"
}

/// One line for each network that may connect.
fn lines(rule: &FirewallRule) -> Vec<String> {
    let interface =
        rule.interface.as_ref().map(|name| format!("iifname \"{name}\" ")).unwrap_or_default();
    let protocol = match rule.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let ports = ports(&rule.ports);
    let line = |from: &str| {
        let name = &rule.name;
        format!("\t\t{interface}{from}{protocol} dport {{ {ports} }} accept comment \"{name}\"\n")
    };
    if rule.from.is_empty() {
        return vec![line("")];
    }
    let family = |network: &str| if network.contains(':') { "ip6" } else { "ip" };
    rule.from.iter().map(|from| line(&format!("{} saddr {from} ", family(from)))).collect()
}

/// A set of ports. nft(8) refuses elements that overlap, so they are joined.
fn ports(list: &[String]) -> String {
    let range = |text: &String| {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        Some((low.parse::<u16>().ok()?, high.parse::<u16>().ok()?))
    };
    let mut ranges: Vec<_> = list.iter().filter_map(range).collect();
    ranges.sort_unstable();
    let mut joined: Vec<(u16, u16)> = Vec::new();
    for (low, high) in ranges {
        match joined.last_mut() {
            Some(last) if u32::from(low) <= u32::from(last.1) + 1 => last.1 = last.1.max(high),
            _ => joined.push((low, high)),
        }
    }
    let element = |(low, high): (u16, u16)| {
        if low == high { low.to_string() } else { format!("{low}-{high}") }
    };
    joined.into_iter().map(element).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::{PATH, ports};

    const RULES: &str = "software.packages = [\"nftables\"]\nnetwork.firewall.enabled = true\n\
        [[network.firewall.rules]]\nname = \"web\"\nports = [\"443\", \"80\", \"79-81\"]\n\
        [[network.firewall.rules]]\nname = \"dns\"\nprotocol = \"udp\"\nports = [\"53\"]\n\
        from = [\"192.0.2.10/24\", \"2001:db8::/32\"]\ninterface = \"br*\"\n";
    const FORWARD: &str = "[[network.firewall.rules]]\nname = \"through\"\n\
        direction = \"forward\"\nports = [\"22\"]\ninterface = \"lan\"\n";

    #[test]
    fn only_what_a_rule_allows_comes_in() {
        let o = sample::overlay(RULES);
        assert_eq!(
            o.text(PATH),
            "#!/usr/sbin/nft -f\ntable inet fleeti\ndelete table inet fleeti\n\n\
             table inet fleeti {\n\tchain input {\n\
             \t\ttype filter hook input priority filter; policy drop;\n\
             \t\tct state established,related accept\n\t\tct state invalid drop\n\
             \t\tiif lo accept\n\t\tmeta l4proto { 1, 58 } accept\n\
             \t\tmeta nfproto ipv4 udp sport 67 udp dport 68 accept\n\
             \t\tip6 saddr fe80::/10 udp sport 547 udp dport 546 accept\n\
             \t\ttcp dport { 79-81, 443 } accept comment \"web\"\n\
             \t\tiifname \"br*\" ip saddr 192.0.2.10/24 udp dport { 53 } accept comment \"dns\"\n\
             \t\tiifname \"br*\" ip6 saddr 2001:db8::/32 udp dport { 53 } accept comment \"dns\"\n\
             \t}\n}\n"
        );
        let preset = o.text("/usr/lib/systemd/system-preset/01-fleeti-profile.preset");
        assert_eq!(preset, "enable nftables.service\n");
        let facts = o.text("/usr/lib/fleeti/image.json");
        assert!(facts.contains("the packet filter is loaded"), "{facts}");
    }

    #[test]
    fn what_is_forwarded_is_filtered_when_a_rule_is_for_it() {
        let o = sample::overlay(&format!("{RULES}{FORWARD}"));
        let text = o.text(PATH);
        let (_, forward) = text.split_once("chain forward {").unwrap();
        assert!(forward.contains("policy drop;"));
        assert!(forward.contains("iifname \"lan\" tcp dport { 22 } accept comment \"through\"\n"));
        assert!(!forward.contains("comment \"web\""));
    }

    #[test]
    fn a_packet_filter_that_is_off_writes_nothing() {
        let o = sample::overlay("");
        assert!(o.find(PATH).is_none());
        let facts = o.text("/usr/lib/fleeti/image.json");
        assert!(!facts.contains("packet filter"), "{facts}");
    }

    #[test]
    fn ports_that_overlap_are_joined() {
        let ports =
            |list: &[&str]| ports(&list.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>());
        assert_eq!(ports(&["80", "8000-8080", "8080-8090", "81"]), "80-81, 8000-8090");
        assert_eq!(ports(&["65535", "1-65535"]), "1-65535");
    }
}
