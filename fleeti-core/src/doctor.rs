//! Judges the facts about a server: what works, what ends soon, and what to do.
//!
//! ```
//! use fleeti_core::doctor::{Stage, stage};
//! use fleeti_core::wire::doctor::{Ending, EndingKind, Renewal};
//!
//! let root = Ending {
//!     kind: EndingKind::Root,
//!     subject: "CN=root".into(),
//!     ends_s: 100 * 86_400,
//!     renewal: Renewal::People { who: "operators".into() },
//!     remedy: "fleeti pki transition root".into(),
//! };
//! assert_eq!(stage(&root, 0), None);
//! assert_eq!(stage(&root, 80 * 86_400), Some(Stage::Within { days: 30 }));
//! assert_eq!(stage(&root, 101 * 86_400), Some(Stage::Ended));
//! ```

mod facts;

pub use facts::{Clock, Disk, Facts, Port, SignerFacts};

use crate::wire::doctor::{Check, CheckResult, Diagnosis, Ending, EndingKind, Renewal};

/// Days before an end at which people are told.
pub const STAGES: [u64; 3] = [60, 30, 7];
/// Days before the end of a manufacturer's CRL. Manufacturers publish new ones every week or month.
const MANUFACTURER_STAGES: [u64; 1] = [2];
/// Seconds of a day.
pub const DAY_S: u64 = 86_400;
/// A backup that is older is a warning, in seconds.
pub const BACKUP_S_MAX: u64 = 7 * DAY_S;
/// An index of packages that is older was not renewed: workers do it twice a day.
pub const INDEX_S_MAX: u64 = 2 * DAY_S;
/// How far the signing service's clock may be ahead, seconds.
const CLOCK_S_MAX: u64 = 300;

/// How near an end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Fewer than this many days are left.
    Within {
        /// One of [`STAGES`]; for what the server renews, the days at which it should have.
        days: u64,
    },
    /// It has ended.
    Ended,
}

/// How near an end is; `None` while nobody has to act.
#[must_use]
pub fn stage(ending: &Ending, now_s: u64) -> Option<Stage> {
    let left_s = match ending.ends_s.checked_sub(now_s) {
        _ if ending.renewal == Renewal::Nobody => return None,
        None | Some(0) => return Some(Stage::Ended),
        Some(left_s) => left_s,
    };
    let stages = match ending.renewal {
        Renewal::Server { left_s: due_s } => {
            return (left_s < due_s).then_some(Stage::Within { days: due_s.div_ceil(DAY_S) });
        }
        Renewal::People { .. } | Renewal::Nobody => match ending.kind {
            EndingKind::ManufacturerCrl => &MANUFACTURER_STAGES[..],
            _ => &STAGES[..],
        },
    };
    let days = stages.iter().rev().find(|days| left_s < *days * DAY_S);
    days.map(|days| Stage::Within { days: *days })
}

/// The examination of a server.
#[must_use]
pub fn diagnose(facts: Facts) -> Diagnosis {
    let mut checks = vec![clock(&facts), database(&facts), disk(&facts), signer(&facts)];
    checks.extend(audit_disk(&facts));
    checks.extend([audit(&facts), index(&facts), backup(&facts)]);
    checks.extend(restore(&facts));
    checks.extend(facts.ports.iter().map(port));
    let Facts { now_s, mut endings, .. } = facts;
    endings.sort_by(|a, b| (a.ends_s, &a.subject).cmp(&(b.ends_s, &b.subject)));
    checks.extend(endings.iter().map(|ending| end(ending, now_s)));
    Diagnosis { now_s, checks, endings }
}

/// The worst result.
#[must_use]
pub fn worst(checks: &[Check]) -> CheckResult {
    checks.iter().map(|check| check.result).max().unwrap_or(CheckResult::Ok)
}

fn ok(name: &str, detail: impl Into<String>) -> Check {
    Check { name: name.into(), result: CheckResult::Ok, detail: detail.into(), remedy: None }
}

fn warning(name: &str, detail: impl Into<String>, remedy: &str) -> Check {
    Check { result: CheckResult::Warning, remedy: Some(remedy.into()), ..ok(name, detail) }
}

fn failed(name: &str, detail: impl Into<String>, remedy: &str) -> Check {
    Check { result: CheckResult::Failed, ..warning(name, detail, remedy) }
}

/// A duration in words.
#[must_use]
pub fn spoken(s: u64) -> String {
    match s {
        0..7200 => format!("{} min", s / 60),
        7200..172_800 => format!("{} h", s / 3600),
        _ => format!("{} days", s / DAY_S),
    }
}

fn clock(facts: &Facts) -> Check {
    let (name, now_s) = ("clock", facts.now_s);
    let remedy = "timedatectl set-ntp true";
    let Clock { not_before_s, stated_s, is_synchronized } = facts.clock;
    if now_s < not_before_s {
        let behind = spoken(not_before_s - now_s);
        return failed(name, format!("{behind} before the newest certificate is valid"), remedy);
    }
    if let Some(ahead_s) = stated_s.and_then(|s| s.checked_sub(now_s)).filter(|s| *s > CLOCK_S_MAX)
    {
        let detail = format!("{} behind the audit log's newest entry", spoken(ahead_s));
        return failed(name, detail, remedy);
    }
    if is_synchronized == Some(false) {
        return warning(name, "the kernel's clock is not synchronized", remedy);
    }
    ok(name, "agrees with certificates and the audit log")
}

fn database(facts: &Facts) -> Check {
    match &facts.database {
        Ok(()) => ok("database", "answers"),
        Err(e) => failed("database", e.clone(), "journalctl --unit fleeti-server"),
    }
}

fn disk(facts: &Facts) -> Check {
    let name = "disk";
    let remedy =
        "fleeti build list, and remove old builds; or move the data folder to a larger disk";
    let Some(Disk { free, floor }) = facts.disk else {
        return failed(
            name,
            "the file system of the data folder does not answer",
            "df --human-readable",
        );
    };
    let detail = format!(
        "{} MiB are free; below {} MiB builds and uploads are refused",
        free >> 20,
        floor >> 20
    );
    match free {
        _ if free < floor => failed(name, detail, remedy),
        _ if free < floor.saturating_mul(2) => warning(name, detail, remedy),
        _ => ok(name, detail),
    }
}

fn audit_disk(facts: &Facts) -> Option<Check> {
    let text = facts.audit_disk.as_ref()?;
    Some(warning("audit disk", text.clone(), "df --human-readable, on the disk of the audit log"))
}

fn signer(facts: &Facts) -> Check {
    let name = "signing service";
    let remedy = "systemctl restart fleeti-signer.service; journalctl --unit fleeti-signer";
    match facts.signer {
        SignerFacts::Answers => ok(name, "answers"),
        SignerFacts::Away { since_s } => {
            let since = since_s.map_or_else(String::new, |s| {
                format!(" for {}", spoken(facts.now_s.saturating_sub(s)))
            });
            failed(name, format!("has not answered{since}"), remedy)
        }
        SignerFacts::Unknown => ok(name, "in the server's process, which was not asked"),
    }
}

fn audit(facts: &Facts) -> Check {
    let name = "audit log";
    let detail = match facts.waiting_acts {
        0 => return ok(name, "no act waits"),
        1 => "1 act waits".to_owned(),
        n => format!("{n} acts wait"),
    };
    if facts.waiting_acts < facts.waiting_many {
        return ok(name, detail);
    }
    warning(
        name,
        detail,
        "journalctl --unit fleeti-signer; it must answer before changes are refused",
    )
}

fn index(facts: &Facts) -> Check {
    let name = "mirror";
    let remedy = "on a build worker: systemctl restart fleeti-worker.service; journalctl --unit fleeti-worker; apt-get update";
    let Some(made_s) = facts.index_s else {
        return warning(
            name,
            "no build worker has made the index of the mirror's packages yet",
            "fleeti worker add NAME --out worker.token (docs/guides/run-a-server.md)",
        );
    };
    let age_s = facts.now_s.saturating_sub(made_s);
    let detail = format!("a build worker made the index of its packages {} ago", spoken(age_s));
    if age_s > INDEX_S_MAX { warning(name, detail, remedy) } else { ok(name, detail) }
}

fn backup(facts: &Facts) -> Check {
    let (name, remedy) = ("backup", "fleeti-server backup FILE");
    let Some(made_s) = facts.backup_s else {
        return warning(name, "none was made with `fleeti-server backup`", remedy);
    };
    let age_s = facts.now_s.saturating_sub(made_s);
    let detail = format!("made {} ago", spoken(age_s));
    if age_s > BACKUP_S_MAX { warning(name, detail, remedy) } else { ok(name, detail) }
}

fn restore(facts: &Facts) -> Option<Check> {
    let open = Some(facts.restore_open).filter(|open| *open > 0)?;
    let detail = format!("{open} things are newer than the restored backup, and left to people");
    let remedy = "read DIR/restore-report.json, repeat what is still wanted, and remove the file";
    Some(warning("restore", detail, remedy))
}

fn port(port: &Port) -> Check {
    let name = format!("port of {}", port.name);
    match &port.refused {
        None => ok(&name, format!("{} accepts connections", port.address)),
        Some(e) => failed(
            &name,
            format!("{}: {e}", port.address),
            "systemctl restart fleeti-server.service; journalctl --unit fleeti-server",
        ),
    }
}

fn end(ending: &Ending, now_s: u64) -> Check {
    let name = format!("{} {}", words(ending.kind), ending.subject);
    let left = ending.ends_s.checked_sub(now_s);
    let detail = match left {
        Some(left_s) if left_s > 0 => format!("ends in {}", spoken(left_s)),
        _ => format!("ended {} ago", spoken(now_s.saturating_sub(ending.ends_s))),
    };
    match stage(ending, now_s) {
        None => ok(&name, detail),
        Some(Stage::Within { .. }) => warning(&name, detail, &ending.remedy),
        Some(Stage::Ended) => failed(&name, detail, &ending.remedy),
    }
}

/// What ends, in words.
#[must_use]
pub const fn words(kind: EndingKind) -> &'static str {
    match kind {
        EndingKind::Root => "root CA",
        EndingKind::RootCrl => "CRL of the root CA",
        EndingKind::IntermediateCa => "intermediate CA",
        EndingKind::FormerCa => "intermediate CA that no longer issues",
        EndingKind::ServerCertificate => "certificate for devices",
        EndingKind::DeviceCrl => "CRL for devices",
        EndingKind::ApiCertificate => "certificate of the API",
        EndingKind::BootCertificate => "Secure Boot certificate",
        EndingKind::ManufacturerCrl => "CRL of TPM manufacturer",
    }
}

/// What will have ended at a time if nobody acts, and what the server renews until then.
#[must_use]
pub fn by(endings: &[Ending], at_s: u64) -> Vec<Ending> {
    endings.iter().filter(|ending| ending.ends_s <= at_s).cloned().collect()
}

/// The checks as lines for people.
#[must_use]
pub fn check_lines(checks: &[Check]) -> Vec<String> {
    let line = |check: &Check| {
        let first = format!("{:<7}  {}: {}", check.result.as_str(), check.name, check.detail);
        let remedy = check.remedy.as_ref().map(|remedy| format!("         remedy: {remedy}"));
        std::iter::once(first).chain(remedy)
    };
    checks.iter().flat_map(line).collect()
}

/// What ends, as lines for people. `when` formats Unix seconds.
#[must_use]
pub fn ending_lines(endings: &[Ending], when: impl Fn(u64) -> String) -> Vec<String> {
    let line = |ending: &Ending| {
        let what = format!("{}  {} {}", when(ending.ends_s), words(ending.kind), ending.subject);
        let who = match &ending.renewal {
            Renewal::Server { .. } => {
                "the server renews it, while it runs with its signing service".to_owned()
            }
            Renewal::People { who } => format!("{who}: {}", ending.remedy),
            Renewal::Nobody => "nobody: its end is intended".to_owned(),
        };
        [what, format!("         {who}")]
    };
    endings.iter().flat_map(line).collect()
}

#[cfg(test)]
mod tests;
