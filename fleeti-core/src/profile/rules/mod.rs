//! Rules for a structurally correct profile: what it may not contain, and why.

mod accounts;
mod files;
mod health;
mod identity;
mod kernel;
mod network;
mod security;
mod services;
mod software;
mod storage;
mod support;

pub(super) use accounts::{
    SYSTEM_GROUPS, SYSTEM_USERS, has_advice, is_known_group, is_known_user, is_own_group,
};
pub(super) use services::identities;

use super::Profile;
use super::finding::Remedy;
use crate::wire::problem::FieldError;
use std::collections::HashSet;

/// Collects what is wrong.
#[derive(Default)]
struct Sink(Vec<FieldError>);

impl Sink {
    fn say(
        &mut self,
        path: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<Remedy>,
    ) {
        self.0.push(remedy.into().of(path.into(), message.into()));
    }
}

/// Every rule that a profile breaks.
pub(super) fn broken(profile: &Profile) -> Vec<FieldError> {
    let mut sink = Sink::default();
    identity::check(profile, &mut sink);
    accounts::check(profile, &mut sink);
    software::check(profile, &mut sink);
    services::check(profile, &mut sink);
    network::check(profile, &mut sink);
    files::check(profile, &mut sink);
    kernel::check(profile, &mut sink);
    storage::check(profile, &mut sink);
    security::check(profile, &mut sink);
    health::check(profile, &mut sink);
    support::check(profile, &mut sink);
    sink.0
}

/// What a profile's author should look at.
pub(super) fn doubtful(profile: &Profile) -> Vec<FieldError> {
    let mut sink = Sink::default();
    identity::doubt(profile, &mut sink);
    accounts::doubt(profile, &mut sink);
    health::doubt(profile, &mut sink);
    network::doubt(profile, &mut sink);
    software::doubt(profile, &mut sink);
    sink.0
}

/// Reports each entry whose name an earlier entry has.
fn unique<'a>(list: &str, field: &str, names: impl Iterator<Item = &'a String>, sink: &mut Sink) {
    let mut seen = HashSet::new();
    for (i, name) in names.enumerate() {
        if !seen.insert(name.as_str()) {
            let suffix = if field.is_empty() { String::new() } else { format!(".{field}") };
            sink.say(format!("{list}[{i}]{suffix}"), "is listed twice", "keep one entry");
        }
    }
}

/// Whether the profile installs a package.
fn installs(profile: &Profile, package: &str) -> bool {
    profile.software.packages.iter().any(|p| p == package)
}

/// Whether systemd accepts a name as a user or a group (systemd.exec(5), "User/Group Identity").
/// For other names, some versions of systemd ignore `User=` and run the service as root.
fn is_account(name: &str) -> bool {
    (1..=31).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
}

/// Whether a path is absolute and has no part that changes its meaning.
fn is_clean_path(path: &str) -> bool {
    path.starts_with('/')
        && path.len() <= 1024
        && path.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..")
        && path.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'\\')
}

/// Whether a text is one printable line of at most `max` bytes that is not empty.
fn is_line(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Whether a name is a label of letters, digits, `-` and `_`, as file names and units need it.
fn is_label(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Whether a name is a host name (RFC 1123): labels of letters, digits and `-`.
fn is_host(name: &str) -> bool {
    let is_part = |part: &str| {
        (1..=63).contains(&part.len())
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_part)
}

/// A file mode in octal that sets permission bits only.
fn is_mode(mode: &str) -> bool {
    u32::from_str_radix(mode, 8).is_ok_and(|bits| bits <= 0o777)
}

const MODES: &str = "write permission bits only, such as 0644 or 0755";

#[cfg(test)]
mod tests {
    use crate::profile::{Severity, check};

    fn paths(more: &str) -> Vec<String> {
        let text = format!("schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n{more}");
        let findings = check(&text).err().into_iter().flatten();
        findings.filter(|f| f.severity == Severity::Error).map(|f| f.path).collect()
    }

    fn service(name: &str, lines: &str) -> String {
        format!("[[services]]\nname = \"{name}\"\nunit = '''\n[Service]\n{lines}\n'''\n")
    }

    #[test]
    fn a_user_that_systemd_would_take_for_root_is_refused_by_its_field() {
        for name in ["0day", "pötter", "a b", "A", "", "-a", "a.b", "a:b", &"a".repeat(32)] {
            assert_eq!(
                paths(&format!("[[users]]\nname = \"{name}\"\n")),
                ["users[0].name"],
                "{name:?}"
            );
        }
        for wrong in [
            "User=0day",
            "User = 0day",
            "User=pötter",
            "User=a b",
            "User=\\\n0day",
            "Group=0day",
            "Group=00",
            "SupplementaryGroups=video 0x",
        ] {
            assert_eq!(paths(&service("x.service", wrong)), ["services[0].unit"], "{wrong}");
            let file = format!(
                "[[files]]\npath = \"/etc/systemd/system/x.service\"\ncontent = '''\n[Service]\n{wrong}\n'''\n"
            );
            assert_eq!(paths(&file), ["files[0].content"], "{wrong}");
        }
        for right in [
            "User=kiosk",
            "User=",
            "User=%i",
            "Group=0",
            "User=1000",
            "SupplementaryGroups=video audio",
            "UserX=0day",
        ] {
            assert!(paths(&service("x.service", right)).is_empty(), "{right}");
        }
        assert_eq!(
            paths("[[users]]\nname = \"ops\"\ngroups = [\"video\", \"0day\", \"v\"]\n"),
            ["users[0].groups[1]"]
        );
    }

    #[test]
    fn a_file_or_a_unit_that_is_not_the_profiles_is_refused_with_its_owner() {
        for path in [
            "/etc/ssh/sshd_config.d/00-x.conf",
            "/etc/systemd/system/fleeti-agent.service",
            "/etc/ld.so.preload",
            "/usr/bin/login",
        ] {
            assert_eq!(
                paths(&format!("[[files]]\npath = \"{path}\"\ncontent = \"\"\n")),
                ["files[0].path"],
                "{path}"
            );
        }
        for name in [
            "emergency.service",
            "systemd-sysext.service",
            "var-lib-fleeti.mount",
            "fleeti-agent.service",
        ] {
            assert_eq!(paths(&service(name, "")), ["services[0].name"], "{name}");
        }
        for name in [
            "fleeti-agent.service",
            "boot-complete.target",
            "systemd-bless-boot.service",
            "dbus.service",
        ] {
            assert_eq!(
                paths(&format!("[[services]]\nname = \"{name}\"\nstate = \"masked\"\n")),
                ["services[0].name"],
                "{name}"
            );
        }
        assert!(
            paths("[[services]]\nname = \"systemd-timesyncd.service\"\nstate = \"masked\"\n")
                .is_empty()
        );
        let both = "[[files]]\npath = \"/etc/a\"\ncontent = \"\"\n[[files]]\npath = \"/etc/a/b\"\ncontent = \"\"\n";
        assert_eq!(paths(both), ["files[1].path"]);
    }

    #[test]
    fn kernel_arguments_together_are_not_longer_than_the_kernel_takes() {
        let many = vec!["\"video=xxxxxxxxxxxxxxxxxxxxxxxx\""; 40].join(", ");
        assert_eq!(paths(&format!("kernel.arguments = [{many}]\n")), ["kernel.arguments"]);
    }

    /// What is wrong, and the path that is reported.
    const WRONG: &[(&str, &str)] = &[
        ("identity.hostname = \"a.b\"", "identity.hostname"),
        ("identity.hostname = \"a-very-long-name-of-a-kiosk-somewhere-{id}\"", "identity.hostname"),
        ("identity.locale = \"de_DE\"", "identity.locale"),
        ("identity.time_zone = \"Europe/Berln\"", "identity.time_zone"),
        ("identity.time_zone = \"europe/berlin\"", "identity.time_zone"),
        ("identity.keyboard = \"d e\"", "identity.keyboard"),
        ("users = [{name = \"a\", shell = \"/bin/zsh\"}]", "users[0].shell"),
        ("users = [{name = \"a\", expires = \"2027-02-30\"}]", "users[0].expires"),
        ("users = [{name = \"a\", id = 1000}, {name = \"b\", id = 1000}]", "users[1].id"),
        ("users = [{name = \"a\", id = 0}]", "users[0].id"),
        ("groups = [{name = \"video\"}]", "groups[0].name"),
        ("sudo = [{name = \"x\", users = [\"a\"], commands = [\"ALL\"]}]", "sudo"),
        ("sudo = [{name = \"x\", users = [\"a\"], commands = [\"ALL\"]}]", "sudo[0].users[0]"),
        ("sudo = [{name = \"x\", groups = [\"g\"], commands = [\"ls\"]}]", "sudo[0].commands[0]"),
        (
            "sudo = [{name = \"x\", groups = [\"g\"], commands = [\"/bin/ls, ALL\"]}]",
            "sudo[0].commands[0]",
        ),
        ("software.components = [\"universe\"]", "software.components[0]"),
        ("software.own = [{name = \"aa\", sha256 = \"00\"}]", "software.own[0].sha256"),
        (
            "software.repositories = [{name = \"v\", url = \"http://x/\", suite = \"s\", key = \"\"}]",
            "software.repositories[0].url",
        ),
        (
            "software.repositories = [{name = \"v\", url = \"https://x/ [trusted=yes]\", suite = \"s\", key = \"\"}]",
            "software.repositories[0].url",
        ),
        (
            "software.repositories = [{name = \"v\", url = \"https://x/\", suite = \"s\", key = \"\"}]",
            "software.repositories[0].components",
        ),
        (
            "software.repositories = [{name = \"debian\", url = \"https://x/\", suite = \"s\", key = \"\"}]",
            "software.repositories[0].name",
        ),
        (
            "software.repositories = [{name = \"v\", url = \"https://x/\", suite = \"s/\", key = \"\", packages = [\"a b\"]}]",
            "software.repositories[0].packages[0]",
        ),
        ("software.own = [{name = \"aa\", sha256 = \"00\"}]", "software.own[0].from"),
        (
            "software.own = [{name = \"aa\", sha256 = \"00\", from = \"/srv/../etc/x.deb\"}]",
            "software.own[0].from",
        ),
        (
            "software.own = [{name = \"aa\", sha256 = \"00\", from = \"/etc/shadow\"}]",
            "software.own[0].from",
        ),
        ("software.backports = [\"cockpit-\"]", "software.backports[0]"),
        ("software.snapshot_age_days_max = 0", "software.snapshot_age_days_max"),
        ("software.packages = [\"gcc\"]\nsecurity.no_compiler = true", "software.packages[0]"),
        ("hardware.initrd_drivers = [\"mmc\"]", "hardware.initrd_drivers"),
        ("kernel.flavour = \"generic\"\nhardware.firmware = [\"realtek\"]", "hardware.firmware"),
        (
            "software.components = [\"non-free-firmware\"]\nhardware.firmware = [\"realtek\"]",
            "hardware.firmware",
        ),
        ("security.setuid = [\"bin/su\"]", "security.setuid[0]"),
        ("services = [{name = \"x\"}]", "services[0].name"),
        (
            "services = [{name = \"a.service\", drop_ins = [{name = \"b\", text = \"User=x\"}]}]",
            "services[0].drop_ins[0].text",
        ),
        (
            "services = [{name = \"a.service\", drop_ins = [{name = \"../b\", text = \"[Unit]\"}]}]",
            "services[0].drop_ins[0].name",
        ),
        (
            "services = [{name = \"a.service\", state = \"masked\", unit = \"[Unit]\"}]",
            "services[0].state",
        ),
        (
            "services = [{name = \"a.service\", unit = \"[Service]\\nExecStart={site.x}\"}]",
            "services[0].unit",
        ),
        ("timers = [{service = \"a\", on_calendar = \"daily\"}]", "timers[0].service"),
        ("timers = [{service = \"a.service\", on_calendar = \"a\\nb\"}]", "timers[0].on_calendar"),
        ("containers = [{name = \"web\", image = \"web:latest\"}]", "containers[0].image"),
        ("network.interfaces = [{name = \"lan\", match = {}}]", "network.interfaces[0].match"),
        (
            "network.interfaces = [{name = \"lan\", match = {name = \"en*\"}, addresses = [\"192.0.2.1/33\"]}]",
            "network.interfaces[0].addresses[0]",
        ),
        (
            "network.interfaces = [{name = \"lan\", match = {mac = \"52:54\"}}]",
            "network.interfaces[0].match.mac",
        ),
        (
            "network.interfaces = [{name = \"lan\", match = {name = \"en*\"}, vlans = [\"v\"]}]",
            "network.interfaces[0].vlans[0]",
        ),
        ("network.vlans = [{name = \"v\", id = 2}]", "network.vlans[0]"),
        ("network.bridges = [{name = \"a-name-that-is-too-long\"}]", "network.bridges[0].name"),
        (
            "network.wifi = [{ssid = \"x\", security = \"wpa3\"}]",
            "network.wifi[0].passphrase_secret",
        ),
        (
            "network.wifi = [{ssid = \"x\", security = \"wpa3\", passphrase_secret = \"w\"}]\nsecrets = [{name = \"w\"}]",
            "network.wifi[0].passphrase_secret",
        ),
        (
            "network.wireguard = [{name = \"wg0\", private_key_secret = \"k\", peers = [{public_key = \"x\", allowed_ips = [\"::/0\"]}]}]",
            "network.wireguard[0].peers[0].allowed_ips[0]",
        ),
        (
            "network.wireguard = [{name = \"wg0\", private_key_secret = \"k\", peers = [{public_key = \"x\", allowed_ips = []}]}]",
            "network.wireguard[0].peers[0].public_key",
        ),
        ("network.dns.servers = [\"dns.example.com\"]", "network.dns.servers[0]"),
        ("network.proxy.url = \"http://u:p@proxy:1\"", "network.proxy.url"),
        ("network.firewall.rules = [{name = \"web\"}]", "network.firewall.rules[0].ports"),
        (
            "network.firewall.rules = [{name = \"web\", ports = [\"0\"]}]",
            "network.firewall.rules[0].ports[0]",
        ),
        (
            "network.firewall.rules = [{name = \"web\", ports = [\"90-80\"]}]",
            "network.firewall.rules[0].ports[0]",
        ),
        ("files = [{path = \"/etc/a\", content = \"\", owner = \"a b\"}]", "files[0].owner"),
        (
            "files = [{path = \"/etc/a\", content = \"{site.x}\", site_values = true}]",
            "files[0].content",
        ),
        (
            "site = [{name = \"x\"}]\nfiles = [{path = \"/etc/systemd/system/a.service\", content = \"{site.x}\", site_values = true}]",
            "files[0].site_values",
        ),
        ("secrets = [{name = \"Wifi\", boot = true}]", "secrets[0].name"),
        ("secrets = [{name = \"w\", boot = true, try_minutes = 0}]", "secrets[0].try_minutes"),
        ("secrets = [{name = \"w\", server_proxy = true}]", "secrets[0].server_proxy"),
        ("secrets = [{name = \"w\", restart = [\"a.service\"]}]", "secrets[0].restart"),
        (
            "secrets = [{name = \"w\", boot = true, restart = [\"fleeti-helper.service\"]}]",
            "secrets[0].restart[0]",
        ),
        ("secrets = [{name = \"w\", boot = true, restart = [\"wifi\"]}]", "secrets[0].restart[0]"),
        (
            "secrets = [{name = \"a\", boot = true, server_proxy = true}, \
             {name = \"b\", boot = true, server_proxy = true}]",
            "secrets[1].server_proxy",
        ),
        ("site = [{name = \"x\", kind = \"address\", default = \"y\"}]", "site[0].default"),
        ("kernel.modules = [\"a/b\"]", "kernel.modules[0]"),
        ("kernel.modules = [\"a\"]\nkernel.blacklist = [\"a\"]", "kernel.modules[0]"),
        ("kernel.sysctl = {\"x\" = \"1\"}", "kernel.sysctl.x"),
        ("kernel.sysctl = {\"kernel.modprobe\" = \"/x\"}", "kernel.sysctl[\"kernel.modprobe\"]"),
        ("state.directories = [{path = \"/etc/x\"}]", "state.directories[0].path"),
        ("state.directories = [{path = \"/var/lib\"}]", "state.directories[0].path"),
        ("state.directories = [{path = \"/var/lib/fleeti/x\"}]", "state.directories[0].path"),
        (
            "state.directories = [{path = \"/srv/a\"}, {path = \"/srv/a/b\"}]",
            "state.directories[1].path",
        ),
        ("security.usb_guard.enabled = true", "security.usb_guard.enabled"),
        ("health_checks = [{name = \"x\"}]", "health_checks[0].command"),
        (
            "health_checks = [{name = \"x\", file = \"/a\", tcp = \"127.0.0.1:1\"}]",
            "health_checks[0].command",
        ),
        ("health_checks = [{name = \"x\", http = \"http://a.example/\"}]", "health_checks[0].http"),
        (
            "health_checks = [{name = \"x\", http = \"http://127.0.0.1:@a.example/\"}]",
            "health_checks[0].http",
        ),
        (
            "health_checks = [{name = \"x\", http = 'http://localhost:80\\@a.example/'}]",
            "health_checks[0].http",
        ),
        ("health_checks = [{name = \"x\", disk = \"/var\"}]", "health_checks[0].disk"),
        ("health_checks = [{name = \"x\", tcp = \"localhost\"}]", "health_checks[0].tcp"),
        ("diagnostics = [{name = \"A b\", command = [\"/bin/a\"]}]", "diagnostics[0].name"),
        ("diagnostics = [{name = \"a\", command = []}]", "diagnostics[0].command"),
        ("diagnostics = [{name = \"a\", command = [\"sh\"]}]", "diagnostics[0].command"),
        (
            "diagnostics = [{name = \"a\", command = [\"/bin/a\"], timeout_s = 601}]",
            "diagnostics[0].timeout_s",
        ),
        ("support_keys = [{name = \"a b\", key = \"x\"}]", "support_keys[0].name"),
        ("support_keys = [{name = \"a\", key = \"x\"}]", "support_keys[0].key"),
        (
            "support_keys = [{name = \"a\", key = \"-----BEGIN PGP PRIVATE KEY BLOCK-----\"}]",
            "support_keys[0].key",
        ),
    ];

    #[test]
    fn each_rule_reports_its_field() {
        for (text, path) in WRONG {
            let found = paths(text);
            assert!(found.iter().any(|f| f == path), "{text}\n{path} in {found:?}");
        }
    }

    #[test]
    fn a_profile_for_a_base_that_was_never_booted_has_a_warning_that_says_so() {
        let text = "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\nbase = \"nixos\"\n";
        let resolved = crate::profile::resolve(text, &crate::profile::Builtin).unwrap();
        let warnings: Vec<_> = resolved.warnings.iter().map(|f| (&*f.path, &*f.message)).collect();
        assert_eq!(warnings, [("base", "the base nixos is evaluated, never booted")]);
        let packages = "software.packages = [\"python3Packages.pip\", \"qt6.qtbase\"]\n";
        assert!(check(&format!("{text}{packages}")).is_ok());
        for wrong in ["a b", "jq; x", "${x}", "a..b", "-a", ".a"] {
            let text = format!("{text}software.packages = [\"{wrong}\"]\n");
            let findings = check(&text).unwrap_err();
            assert!(findings.iter().any(|f| f.path == "software.packages[0]"), "{wrong}");
        }
    }

    #[test]
    fn a_profile_that_uses_every_section_passes() {
        let text = include_str!("everything.toml");
        let resolved = crate::profile::resolve(text, &crate::profile::Builtin);
        let resolved = resolved.map_err(|findings| format!("{findings:#?}")).unwrap();
        assert_eq!(resolved.warnings, []);
        let json = serde_json::to_vec(&resolved.profile).unwrap();
        let read: crate::profile::Profile = crate::strict::from_slice(&json).unwrap();
        assert_eq!(read, resolved.profile, "JSON is read as it is written");
        // Every field of the model is set, so that a new one is not forgotten here.
        let set = crate::profile::beyond(&resolved.profile, &[]).unwrap();
        let pattern = |path: &str| {
            path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).fold(
                String::new(),
                |all, part| {
                    if all.is_empty() { part.to_owned() } else { format!("{all}[]{part}") }
                },
            )
        };
        let set: Vec<_> = set.iter().map(|path| pattern(path)).collect();
        let is_set = |field: &String| {
            let map = field.strip_suffix(".*");
            set.iter().any(|s| s == field || map.is_some_and(|map| s.starts_with(map)))
        };
        // No other base honours every field.
        let fields = crate::profile::fields().into_iter().filter(|field| field != "base");
        let missing: Vec<_> = fields.filter(|f| !is_set(f)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn what_an_author_should_look_at_is_a_warning() {
        for (text, path) in [
            ("users = [{name = \"a\", groups = [\"wheel\"]}]", "users[0].groups[0]"),
            ("users = [{name = \"a\", groups = [\"docker\"]}]", "users[0].groups[0]"),
            (
                "network.firewall.rules = [{name = \"a\", ports = [\"1\"]}]",
                "network.firewall.rules",
            ),
            ("software.packages = [\"unattended-upgrades\"]", "software.packages[0]"),
            ("software.suites = [\"backports\"]", "software.suites[0]"),
            (
                "services = [{name = \"a.service\", unit = \"[Unit]\\nAfter=a.target multi-user.target\"}]\n\
                 health_checks = [{name = \"a\", unit = \"a.service\"}]",
                "health_checks[0].unit",
            ),
        ] {
            let text = format!("schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n{text}");
            let resolved = crate::profile::resolve(&text, &crate::profile::Builtin).unwrap();
            let found = resolved.warnings.iter().any(|f| f.path == path);
            assert!(found, "{text} {:?}", resolved.warnings);
        }
    }
}
