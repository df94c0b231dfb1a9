//! Random edits of profiles, the same for each seed.

use fleeti_build::base::Base;
use fleeti_build::base::debian::Debian;
use fleeti_core::profile::{
    Builtin, Dhcp, DropIn, File, FirewallRule, Group, HealthCheck, Interface, Lockdown, OverTls,
    Profile, Protocol, Service, StateDirectory, SudoRule, Timer, UnitState, User, broken_rules,
};
use serde_json::json;

/// Random numbers (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut n = self.0;
        n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ (n >> 31)
    }
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }
    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
    fn name(&mut self, list: &[&str]) -> String {
        (*self.pick(list)).to_owned()
    }
    /// Adds a text, or removes it if it is there.
    fn toggle(&mut self, list: &mut Vec<String>, texts: &[&str]) {
        let text = self.name(texts);
        match list.iter().position(|entry| *entry == text) {
            Some(at) => drop(list.remove(at)),
            None => list.insert(self.below(list.len() + 1), text),
        }
    }
    /// Removes an entry, or changes one, or adds one.
    fn entry<T>(&mut self, list: &mut Vec<T>, new: T, change: impl FnOnce(&mut T, &mut Self)) {
        match self.below(4) {
            0 if !list.is_empty() => drop(list.remove(self.below(list.len()))),
            1 | 2 if !list.is_empty() => {
                let at = self.below(list.len());
                change(&mut list[at], self);
            }
            _ => list.insert(self.below(list.len() + 1), new),
        }
    }
}

/// A value of the model from JSON, with the defaults of its fields.
fn made<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).unwrap()
}

type Edit = fn(&mut Profile, &mut Random);

/// Edits by section.
const EDITS: &[(&str, Edit)] = &[
    ("users", users),
    ("users", users),
    ("groups", groups),
    ("sudo", sudo),
    ("packages", packages),
    ("services", services),
    ("services", services),
    ("units of packages", package_units),
    ("timers", timers),
    ("containers", containers),
    ("sysctl", sysctl),
    ("kernel arguments", |p, r| {
        r.toggle(&mut p.kernel.arguments, &["quiet", "loglevel=3", "nosmt", "consoleblank=60"])
    }),
    ("modules", |p, r| r.toggle(&mut p.kernel.modules, &["br_netfilter", "8021q", "loop"])),
    ("blacklist", |p, r| r.toggle(&mut p.kernel.blacklist, &["firewire-core", "pcspkr", "hfs"])),
    ("host name", |p, r| p.identity.hostname = r.name(&["{id}", "box-{id}", "kiosk-{id}"])),
    ("time zone", |p, r| {
        p.identity.time_zone =
            r.name(&["Etc/UTC", "Europe/Berlin", "Asia/Tokyo", "America/New_York"])
    }),
    ("size of /var", |p, r| p.storage.var_mib = *r.pick(&[256, 300, 512])),
    ("interfaces", interfaces),
    ("interfaces", interfaces),
    ("links", links),
    ("dns", dns),
    ("time servers", |p, r| {
        r.toggle(&mut p.network.time.servers, &["ntp.example.com", "192.0.2.9"])
    }),
    ("proxy", proxy),
    ("packet filter", |p, _| p.network.firewall.enabled ^= true),
    ("rules", rules),
    ("rules", rules),
    ("rules", rules),
    ("health checks", health),
    ("security", security),
    ("ssh", ssh),
    ("state", state),
    ("files", files),
    ("files", files),
    ("updates", updates),
    ("nothing on a device", nothing),
];

/// Packages that a random edit adds or removes. Another list is for images that are really built.
const PACKAGES: &[&str] = &[
    "curl",
    "htop",
    "less",
    "tcpdump",
    "rsync",
    "chrony",
    "podman",
    "openssh-server",
    "sudo",
    "cron",
];

/// A profile that differs from this one, which the rules and the base accept, and the sections that
/// were edited.
pub fn edit(text: &str, random: &mut Random) -> (String, Profile) {
    let before = fleeti_core::profile::check(text).unwrap();
    loop {
        if random.below(12) == 0 {
            let fragment =
                random.name(&Builtin::all().iter().map(|f| &*f.name).collect::<Vec<_>>());
            let extended = format!("extends = [\"{fragment}\"]\n{text}");
            match fleeti_core::profile::check(&extended) {
                Ok(after) if is_accepted(&before, &after) => return (fragment, after),
                _ => continue,
            }
        }
        let mut after = before.clone();
        let mut sections = Vec::new();
        for _ in 0..=random.below(3) {
            let (section, edit) = random.pick(EDITS);
            edit(&mut after, random);
            sections.push(*section);
        }
        if is_accepted(&before, &after) {
            return (sections.join(", "), after);
        }
    }
}

/// As [`edit`], with one package more or less that brings users, groups or units.
pub fn packages_of_images(text: &str, random: &mut Random) -> (String, Profile) {
    let mut after = fleeti_core::profile::check(text).unwrap();
    let package = random.name(&["tcpdump", "cron", "rsync", "chrony"]);
    random.toggle(&mut after.software.packages, &[package.as_str()]);
    (format!("package {package}"), after)
}

fn has(p: &Profile, package: &str) -> bool {
    p.software.packages.iter().any(|name| name == package)
}

/// Whether the image has every account that the profile names, with one number each: a build stops
/// otherwise.
fn has_its_accounts(p: &Profile) -> bool {
    let users: Vec<_> = p.users.iter().map(|user| user.name.as_str()).collect();
    let is_user = |name: &String| {
        ["root", "daemon", "www-data", "nobody"].contains(&name.as_str())
            || users.contains(&name.as_str())
    };
    let groups: Vec<_> = p.groups.iter().map(|group| group.name.as_str()).collect();
    let of_system = ["root", "adm", "dialout", "sudo", "audio", "www-data", "video", "plugdev"];
    let is_group = |name: &String| {
        let name = name.as_str();
        of_system.contains(&name) || groups.contains(&name) || users.contains(&name)
    };
    let named = p.users.iter().map(|user| user.id).chain(p.groups.iter().map(|group| group.id));
    let mut numbers: Vec<_> = named.flatten().collect();
    numbers.sort_unstable();
    let count = numbers.len();
    numbers.dedup();
    numbers.len() == count
        && p.users.iter().flat_map(|user| &user.groups).all(is_group)
        && p.sudo.iter().all(|rule| is_user(&rule.run_as))
        && p.sudo.iter().flat_map(|rule| &rule.groups).all(is_group)
        && p.security.ssh.allow_groups.iter().all(is_group)
        && p.files.iter().all(|file| is_user(&file.owner) && is_group(&file.group))
        && p.state.directories.iter().all(|d| is_user(&d.owner) && is_group(&d.group))
}

fn is_accepted(before: &Profile, after: &Profile) -> bool {
    // With an index, a unit that no package of the profile brings is a finding.
    let brings = |unit: &str| match unit {
        "ssh.service" => has(after, "openssh-server"),
        "cron.service" => has(after, "cron"),
        "nftables.service" => after.network.firewall.enabled || has(after, "nftables"),
        _ => false,
    };
    let units = after.services.iter().all(|s| s.unit.is_some() || brings(&s.name));
    before != after
        && units
        && has_its_accounts(after)
        && broken_rules(after).is_empty()
        && Debian.check(after).is_ok()
}

fn users(p: &mut Profile, r: &mut Random) {
    let name = r.name(&["anna", "bert", "carla"]);
    let groups = [["adm"], ["video"], ["audio"]][r.below(3)];
    let new: User = made(json!({"name": name, "groups": groups}));
    r.entry(&mut p.users, new, |user, r| match r.below(8) {
        0 => user.comment = r.name(&["", "A person", "Another person"]),
        1 => user.id = [None, Some(2001), Some(2002)][r.below(3)],
        2 => r.toggle(&mut user.groups, &["adm", "video", "audio", "dialout", "plugdev"]),
        3 => r.toggle(&mut user.ssh_keys, &["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPNkOPd3ZQm0vwqRmTMvsAV9xzmXwDuBhMJ9ssMyPXTt a@example"]),
        4 => user.shell = r.name(&["/bin/bash", "/bin/sh"]),
        5 => user.expires = [None, Some("2030-01-31".to_owned())][r.below(2)].clone(),
        6 => user.groups.reverse(),
        _ => user.comment.push('x'),
    });
    if r.below(6) == 0 {
        p.users.reverse();
    }
}

fn groups(p: &mut Profile, r: &mut Random) {
    let new: Group = made(json!({"name": r.name(&["sensors", "makers"])}));
    r.entry(&mut p.groups, new, |group, r| group.id = [None, Some(3001), Some(3002)][r.below(3)]);
}

fn sudo(p: &mut Profile, r: &mut Random) {
    if p.users.is_empty() {
        return;
    }
    let user = r.pick(&p.users).name.clone();
    let new: SudoRule = made(
        json!({"name": r.name(&["one", "two"]), "users": [user], "commands": ["/usr/bin/true"], "no_password": true}),
    );
    let names: Vec<_> = p.users.iter().map(|user| user.name.clone()).collect();
    r.entry(&mut p.sudo, new, |rule, r| match r.below(6) {
        0 => r.toggle(&mut rule.users, &names.iter().map(String::as_str).collect::<Vec<_>>()),
        1 => r.toggle(&mut rule.groups, &["adm", "operators", "video"]),
        2 => rule.commands = vec![r.name(&["ALL", "/usr/bin/true", "/usr/bin/id"])],
        3 => rule.no_password ^= true,
        4 => rule.run_as = r.name(&["root", "www-data"]),
        _ => rule.name.push('x'),
    });
}

fn packages(p: &mut Profile, r: &mut Random) {
    r.toggle(&mut p.software.packages, PACKAGES);
}

const PLAIN: &str = "[Service]\nExecStart=/usr/bin/sleep 1\n";

fn service_text(r: &mut Random) -> String {
    let wanted = [
        "",
        "\n[Install]\nWantedBy=multi-user.target\n",
        "\n[Install]\nWantedBy=\nRequiredBy=multi-user.target\n",
    ];
    format!("{PLAIN}Environment=A={}\n{}", r.below(3), r.pick(&wanted))
}

fn services(p: &mut Profile, r: &mut Random) {
    let new: Service =
        made(json!({"name": r.name(&["one.service", "two.service"]), "unit": service_text(r)}));
    r.entry(&mut p.services, new, |service, r| match r.below(4) {
        0 => service.state = *r.pick(&[UnitState::Enabled, UnitState::Disabled, UnitState::Masked]),
        1 if service.unit.is_some() => service.unit = Some(service_text(r)),
        2 => drop_ins(&mut service.drop_ins, r),
        _ => service.state = UnitState::Disabled,
    });
}

fn drop_ins(list: &mut Vec<DropIn>, r: &mut Random) {
    let text = format!("[Service]\nNice={}\n", r.below(5));
    let new: DropIn = made(json!({"name": r.name(&["nice", "more"]), "text": text}));
    r.entry(list, new, |drop_in, _| drop_in.text = text);
}

fn package_units(p: &mut Profile, r: &mut Random) {
    let mut new: Service =
        made(json!({"name": r.name(&["ssh.service", "cron.service", "nftables.service"])}));
    new.state = *r.pick(&[UnitState::Enabled, UnitState::Disabled, UnitState::Masked]);
    if r.coin() {
        drop_ins(&mut new.drop_ins, r);
    }
    p.services.retain(|service| service.name != new.name);
    p.services.push(new);
}

fn timers(p: &mut Profile, r: &mut Random) {
    if p.services.is_empty() {
        return;
    }
    let service = r.pick(&p.services).name.clone();
    let new: Timer = made(json!({"service": service, "on_calendar": "daily"}));
    r.entry(&mut p.timers, new, |timer, r| match r.below(3) {
        0 => timer.on_calendar = r.name(&["daily", "weekly", "hourly"]),
        1 => timer.persistent ^= true,
        _ => timer.random_delay_s = *r.pick(&[0, 30, 60]),
    });
}

fn containers(p: &mut Profile, r: &mut Random) {
    if !p.software.packages.iter().any(|package| package == "podman") {
        p.software.packages.push("podman".to_owned());
    }
    let image = format!("registry.example.com/a@sha256:{}", "0".repeat(64));
    let new =
        made(json!({"name": r.name(&["web", "cache"]), "image": image, "ports": ["8080:80"]}));
    r.entry(&mut p.containers, new, |container: &mut fleeti_core::profile::Container, r| {
        match r.below(2) {
            0 => container.read_only ^= true,
            _ => container.ports = vec![r.name(&["8080:80", "8081:80"])],
        }
    });
}

fn sysctl(p: &mut Profile, r: &mut Random) {
    let name = r.name(&["net.ipv4.ip_forward", "vm.swappiness", "kernel.sysrq"]);
    if p.kernel.sysctl.remove(&name).is_none() || r.coin() {
        p.kernel.sysctl.insert(name, r.below(3).to_string());
    }
}

fn interfaces(p: &mut Profile, r: &mut Random) {
    let name = r.name(&["lan", "wan"]);
    let new: Interface = made(json!({"name": name, "match": {"name": format!("{name}*")}}));
    r.entry(&mut p.network.interfaces, new, |interface, r| match r.below(4) {
        0 => interface.dhcp = *r.pick(&[Dhcp::Yes, Dhcp::No, Dhcp::Ipv4]),
        1 => interface.mtu = *r.pick(&[0, 1400, 9000]),
        2 => r.toggle(&mut interface.addresses, &["192.0.2.7/24", "2001:db8::7/64"]),
        _ => r.toggle(&mut interface.dns, &["192.0.2.53"]),
    });
}

fn links(p: &mut Profile, r: &mut Random) {
    let network = &mut p.network;
    match r.below(3) {
        0 => {
            let new = made(json!({"name": r.name(&["v1", "v2"]), "id": 1 + r.below(9)}));
            r.entry(&mut network.vlans, new, |vlan: &mut fleeti_core::profile::Vlan, _| {
                vlan.id += 1
            });
        }
        1 => {
            let new = made(json!({"name": r.name(&["br1", "br2"])}));
            r.entry(&mut network.bridges, new, |bridge: &mut fleeti_core::profile::Bridge, _| {
                bridge.spanning_tree ^= true
            });
        }
        _ => network.bonds.push(made(json!({"name": r.name(&["bond1", "bond2"])}))),
    }
}

fn dns(p: &mut Profile, r: &mut Random) {
    let dns = &mut p.network.dns;
    match r.below(4) {
        0 => r.toggle(&mut dns.servers, &["192.0.2.53", "192.0.2.54"]),
        1 => r.toggle(&mut dns.search, &["example.com"]),
        2 => dns.over_tls = *r.pick(&[OverTls::No, OverTls::Opportunistic, OverTls::Yes]),
        _ => dns.dnssec ^= true,
    }
}

fn proxy(p: &mut Profile, r: &mut Random) {
    match r.below(2) {
        0 => {
            p.network.proxy.url =
                [None, Some("http://proxy.example.com:3128".to_owned())][r.below(2)].clone()
        }
        _ => r.toggle(&mut p.network.proxy.except, &["example.com", ".example.net"]),
    }
}

const PORTS: &[&str] = &["22", "80", "443", "79-81", "8000-8080", "8080-8090"];

fn rules(p: &mut Profile, r: &mut Random) {
    let new: FirewallRule =
        made(json!({"name": r.name(&["web", "more"]), "ports": [r.name(PORTS)]}));
    r.entry(&mut p.network.firewall.rules, new, |rule, r| match r.below(7) {
        0 | 1 => r.toggle(&mut rule.ports, PORTS),
        2 => rule.protocol = *r.pick(&[Protocol::Tcp, Protocol::Udp]),
        3 => r.toggle(&mut rule.from, &["192.0.2.0/24", "2001:db8::/32"]),
        4 => {
            rule.interface =
                [None, Some("lan".to_owned()), Some("br0".to_owned())][r.below(3)].clone()
        }
        5 => rule.service = [None, Some("one.service".to_owned())][r.below(2)].clone(),
        _ => rule.ports.reverse(),
    });
}

fn health(p: &mut Profile, r: &mut Random) {
    let new: HealthCheck = made(json!({"name": r.name(&["alive", "well"]), "tcp": "127.0.0.1:80"}));
    r.entry(&mut p.health_checks, new, |check, r| match r.below(2) {
        0 => check.timeout_s = *r.pick(&[10, 20, 30]),
        _ => check.weight = *r.pick(&[10, 50, 100]),
    });
}

fn security(p: &mut Profile, r: &mut Random) {
    let security = &mut p.security;
    match r.below(4) {
        0 => {
            security.lockdown =
                *r.pick(&[Lockdown::Automatic, Lockdown::Integrity, Lockdown::Confidentiality])
        }
        1 => security.no_core_dumps ^= true,
        2 => security.hardened_sysctl ^= true,
        _ => security.no_compiler ^= true,
    }
}

fn ssh(p: &mut Profile, r: &mut Random) {
    let ssh = &mut p.security.ssh;
    match r.below(4) {
        0 => ssh.forwarding ^= true,
        1 => ssh.attempts_max = *r.pick(&[3, 4, 6]),
        2 => ssh.idle_timeout_s = *r.pick(&[0, 600]),
        _ => r.toggle(&mut ssh.allow_groups, &["adm", "sudo"]),
    }
}

fn state(p: &mut Profile, r: &mut Random) {
    let new: StateDirectory =
        made(json!({"path": r.name(&["/var/lib/one", "/srv/50%", "/var/lib/a b"])}));
    r.entry(&mut p.state.directories, new, |directory, r| match r.below(3) {
        0 => directory.owner = r.name(&["root", "www-data"]),
        1 => directory.group = r.name(&["root", "adm"]),
        _ => directory.mode = r.name(&["0755", "0700"]),
    });
}

fn files(p: &mut Profile, r: &mut Random) {
    let new =
        File::new(&r.name(&["/etc/one.conf", "/opt/two/three", "/usr/local/bin/four"]), "a\n");
    r.entry(&mut p.files, new, |file, r| match r.below(4) {
        0 => file.content.push_str("more\n"),
        1 => file.mode = r.name(&["0644", "0600", "0755"]),
        2 => file.owner = r.name(&["root", "www-data"]),
        _ => file.group = r.name(&["root", "adm"]),
    });
}

fn updates(p: &mut Profile, r: &mut Random) {
    match r.below(4) {
        0 => p.release_log.optional ^= true,
        1 => p.release_log.age_days_max = *r.pick(&[3, 7, 14]),
        2 => p.server_contact.optional ^= true,
        _ => p.server_contact.deadline_s = *r.pick(&[600, 900]),
    }
}

fn nothing(p: &mut Profile, r: &mut Random) {
    match r.below(3) {
        0 => p.description.push('x'),
        1 => p.secrets.push(made(json!({"name": r.name(&["key", "token"])}))),
        _ => p.extension.nixos.push_str("{ }"),
    }
}
