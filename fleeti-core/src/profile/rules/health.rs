//! Rules for health checks.

use super::{Sink, is_clean_path};
use crate::profile::{DiskCheck, HealthCheck, Probe, Profile, Service, UnitState};
use std::net::SocketAddr;

pub(super) fn check(profile: &Profile, sink: &mut Sink) {
    for (i, h) in profile.health_checks.iter().enumerate() {
        health_check(&format!("health_checks[{i}]"), h, profile, sink);
    }
    super::unique("health_checks", "name", profile.health_checks.iter().map(|h| &h.name), sink);
}

/// Targets that wait for the health checks.
const LATE: [&str; 2] = ["multi-user.target", "graphical.target"];

/// Units that cannot be active while the checks run.
pub(super) fn doubt(profile: &Profile, sink: &mut Sink) {
    for (i, h) in profile.health_checks.iter().enumerate() {
        let Some(Probe::Unit(unit)) = h.probe() else { continue };
        let service = profile.services.iter().find(|s| s.name == unit);
        if service.is_some_and(is_late) {
            let remedy =
                "remove the target from After= of the unit: the target waits for the checks";
            sink.say(format!("health_checks[{i}].unit"), "starts only after the checks", remedy);
        }
    }
}

/// Whether the text of a unit orders it after a target that waits for the checks.
fn is_late(service: &Service) -> bool {
    let drop_ins = service.drop_ins.iter().map(|drop_in| drop_in.text.as_str());
    service.unit.as_deref().into_iter().chain(drop_ins).flat_map(str::lines).any(|line| {
        let units = line.trim().strip_prefix("After=").unwrap_or_default();
        units.split_ascii_whitespace().any(|unit| LATE.contains(&unit))
    })
}

fn health_check(path: &str, h: &HealthCheck, profile: &Profile, sink: &mut Sink) {
    if !super::is_line(&h.name, 64) {
        let remedy = "use 1 to 64 printable characters";
        sink.say(format!("{path}.name"), "is not a valid name", remedy);
    }
    if !(1..=600).contains(&h.timeout_s) {
        sink.say(format!("{path}.timeout_s"), "is out of range", "use 1 to 600 seconds");
    }
    if !(1..=100).contains(&h.weight) {
        sink.say(format!("{path}.weight"), "is out of range", "use 1 to 100");
    }
    if h.disk.as_deref().is_some_and(|disk| {
        DiskCheck::parse(disk).is_none_or(|check| !is_clean_path(check.path) && check.path != "/")
    }) {
        let remedy = "write it as /var/lib/app:500M";
        sink.say(format!("{path}.disk"), "is not a directory with a size", remedy);
        return;
    }
    match h.probe() {
        Some(probe) => check_probe(path, probe, profile, sink),
        None => sink.say(
            format!("{path}.command"),
            "the check must name exactly one thing to look at",
            "give one of command, unit, http, tcp, file, disk and memory_free_mib",
        ),
    }
}

/// Whether a URL without its scheme begins with a loopback address, and nothing that follows makes
/// it the user name of another host.
fn is_on_the_device(rest: &str) -> bool {
    let authority = rest.split('/').next().unwrap_or_default();
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|local| {
        authority.strip_prefix(local).is_some_and(|after| {
            after.is_empty()
                || after.strip_prefix(':').is_some_and(|port| {
                    port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
                })
        })
    })
}

fn check_probe(path: &str, probe: Probe<'_>, profile: &Profile, sink: &mut Sink) {
    match probe {
        Probe::Command(command) => {
            if command.first().is_none_or(|c| !is_clean_path(c)) {
                sink.say(
                    format!("{path}.command"),
                    "does not start with an absolute path",
                    "write [\"/usr/bin/systemctl\", \"is-active\", \"x.service\"]",
                );
            }
        }
        Probe::Unit(unit) => {
            let path = format!("{path}.unit");
            let stopped =
                profile.services.iter().any(|s| s.name == unit && s.state == UnitState::Masked);
            if !super::services::is_unit(unit) {
                let remedy = "write it with its suffix, as in nginx.service";
                sink.say(path, "is not a unit name", remedy);
            } else if stopped {
                sink.say(path, "is masked by this profile", "check another unit");
            }
        }
        Probe::Http(url) => {
            let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
            let is_local = rest.is_some_and(is_on_the_device);
            if !is_local || !super::is_line(url, 512) || url.contains(char::is_whitespace) {
                let remedy = "write http://127.0.0.1:PORT/PATH: a new image must not be lost \
                              because another machine is down";
                sink.say(format!("{path}.http"), "is not an address on the device", remedy);
            }
        }
        Probe::Tcp(address) => {
            if address.parse::<SocketAddr>().is_err() {
                let remedy = "write it as 127.0.0.1:5432";
                sink.say(format!("{path}.tcp"), "is not ADDRESS:PORT", remedy);
            }
        }
        Probe::File(file) => {
            if !is_clean_path(file) {
                sink.say(format!("{path}.file"), "is not an absolute path", "write /run/app/ready");
            }
        }
        Probe::Disk(_) => {}
        Probe::MemoryFree(mib) => {
            if mib == 0 {
                sink.say(format!("{path}.memory_free_mib"), "is 0", "use at least 1");
            }
        }
    }
}
