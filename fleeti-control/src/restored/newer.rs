//! What the audit log says that a restored database does not know yet.

use fleeti_core::id::{AccountName, DeviceId, Line, ReleaseName, WorkerName};
use fleeti_core::wire::accounts::Grant;
use fleeti_core::wire::api::RevocationReason;
use fleeti_pki::audit::{Act, Entry, Stage};
use std::collections::{BTreeMap, BTreeSet};

/// Most acts that are listed one by one.
const LISTED_MAX: usize = 1000;

/// What is newer than a backup.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Newer {
    /// Devices that were revoked, and not released from a hold again.
    pub(super) revoked: BTreeMap<DeviceId, RevocationReason>,
    /// The last key that was certified for a device: SHA-256, hexadecimal.
    pub(super) keys: BTreeMap<DeviceId, String>,
    /// Keys that are being certified, by the number of the intent. The outcome names the digest of
    /// the certificate, not of the key.
    intents: BTreeMap<u64, String>,
    /// Releases that were revoked.
    pub(super) releases: Vec<ReleaseName>,
    /// Rollouts that were aborted.
    pub(super) aborted: BTreeSet<String>,
    /// Rollouts that were paused last.
    pub(super) paused: BTreeSet<String>,
    /// What was taken from accounts, in order.
    pub(super) accounts: Vec<Taken>,
    /// Ids of API tokens that were removed.
    pub(super) tokens: BTreeSet<String>,
    /// Devices whose updates an operator holds: the reason, and the end, Unix seconds.
    pub(super) holds: BTreeMap<DeviceId, (String, Option<u64>)>,
    /// Build workers that were removed.
    pub(super) workers: BTreeSet<WorkerName>,
    /// Lines whose builds by a schedule were stopped.
    pub(super) schedules: BTreeSet<Line>,
    /// Other acts, which nobody can repeat without their authors: `TIME ACTOR ACTION SUBJECT`.
    pub(super) lost: Vec<String>,
    /// Further ones.
    pub(super) lost_more: u64,
}

/// What was taken from an account.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was disabled.
    Disabled(AccountName),
    /// Everything of it was ended.
    Offboarded(AccountName),
    /// A role.
    Role(AccountName, Grant),
}

/// Actions that certify the key of a device; the digest of the intent is that of the key.
const CERTIFIED: [&str; 3] = ["certificate.device", "certificate.enroll", "certificate.renew"];
/// Beginnings of actions that leave nothing in the database that a restore could lose, or that are
/// repeated by themselves.
const WITHOUT_TRACE: [&str; 13] = [
    "certificate.",
    "crl.",
    "secret.give",
    "recovery-key.show",
    "session.",
    "signer.",
    "boot.sign",
    "release.sign",
    "command.",
    "audit.",
    "server.",
    "lock.",
    "refresh-schedule.begin",
];

impl Newer {
    /// Adds an entry, in the order of the log.
    pub(super) fn add(&mut self, entry: &Entry) {
        let act = &entry.act;
        match &entry.stage {
            Stage::Intent => {
                if let (true, Some(key)) = (certifies(act), act.sha256.clone()) {
                    self.intents.insert(entry.number, key);
                }
                return;
            }
            Stage::Failed { intent, .. } => {
                self.intents.remove(intent);
                return;
            }
            Stage::Outcome { intent } => {
                let key = self.intents.remove(intent).filter(|_| certifies(act));
                if let (Ok(device), Some(key)) = (act.subject.parse(), key) {
                    self.keys.insert(device, key);
                }
                return;
            }
            Stage::Done => {}
        }
        if act.action.ends_with("-refused") || act.action.ends_with(".refused") {
            return;
        }
        if self.repeatable(&act.action, &act.subject, entry.at_s).is_none()
            && !WITHOUT_TRACE.iter().any(|begin| act.action.starts_with(begin))
        {
            self.lose(format!("{} {} {} {}", entry.at_s, act.actor, act.action, act.subject));
        }
    }

    /// Adds an act that the server repeats. `None` for any other.
    fn repeatable(&mut self, action: &str, subject: &str, at_s: u64) -> Option<()> {
        let first = subject.split_whitespace().next().unwrap_or_default();
        match action {
            "device.revoke" => {
                let reason = subject.split_whitespace().nth(1)?;
                let reason = RevocationReason::ALL.into_iter().find(|r| r.as_str() == reason)?;
                self.revoked.insert(first.parse().ok()?, reason);
            }
            "device.release-hold" => {
                let device = first.parse().ok()?;
                if self.revoked.get(&device) == Some(&RevocationReason::CertificateHold) {
                    self.revoked.remove(&device);
                }
            }
            "device.hold" => {
                let (device, rest) = subject.split_once(' ')?;
                self.holds.insert(device.parse().ok()?, hold_of(rest, at_s));
            }
            "device.unhold" => {
                self.holds.remove(&first.parse().ok()?);
            }
            "release.revoke" => {
                let release = first.parse().ok()?;
                if !self.releases.contains(&release) {
                    self.releases.push(release);
                }
            }
            "rollout.abort" => {
                self.paused.remove(first);
                self.aborted.insert(first.to_owned());
            }
            // The first rollout ended for another one, which is lost and said.
            "rollout.roll-back" | "rollout.supersede" => {
                self.paused.remove(first);
                self.aborted.insert(first.to_owned());
                return None;
            }
            "rollout.pause" => {
                self.paused.insert(first.to_owned());
            }
            "rollout.resume" => {
                self.paused.remove(first);
            }
            "account.disable" => self.accounts.push(Taken::Disabled(first.parse().ok()?)),
            "account.offboard" => {
                let name = first.trim_end_matches(':').parse().ok()?;
                self.accounts.push(Taken::Offboarded(name));
            }
            "account.ungrant" => {
                let (name, grant) = subject.split_once(": ")?;
                self.accounts.push(Taken::Role(name.parse().ok()?, grant_of(grant)?));
            }
            "token.remove" => {
                self.tokens.insert(first.to_owned());
            }
            "refresh-schedule.set" => {
                self.schedules.remove(&first.parse().ok()?);
                return None;
            }
            "refresh-schedule.remove" => {
                self.schedules.insert(first.parse().ok()?);
            }
            "worker.remove" => {
                self.workers.insert(first.parse().ok()?);
            }
            _ => return None,
        }
        Some(())
    }

    /// Lists an act, or counts it.
    pub(super) fn lose(&mut self, act: String) {
        if self.lost.len() < LISTED_MAX {
            self.lost.push(act);
        } else {
            self.lost_more += 1;
        }
    }
}

fn certifies(act: &Act) -> bool {
    CERTIFIED.contains(&act.action.as_str())
}

/// Reason and end of a hold as the audit log writes it. A reason can begin like an end, which is
/// never before the act.
fn hold_of(text: &str, at_s: u64) -> (String, Option<u64>) {
    let end = text.strip_prefix("until ").and_then(|rest| rest.split_once(' '));
    let end = end.and_then(|(until_s, reason)| Some((reason, until_s.parse::<u64>().ok()?)));
    match end.filter(|(_, until_s)| *until_s > at_s) {
        Some((reason, until_s)) => (reason.to_owned(), Some(until_s)),
        None => (text.to_owned(), None),
    }
}

/// A role as the audit log writes it.
fn grant_of(text: &str) -> Option<Grant> {
    let (role, fleet) = text.split_once(" of ")?;
    let fleet = if fleet == "all fleets" { None } else { Some(fleet.parse().ok()?) };
    Some(Grant { role: role.parse().ok()?, fleet })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newer(acts: &[(&str, &str)]) -> Newer {
        let mut newer = Newer::default();
        for (number, (action, subject)) in acts.iter().enumerate() {
            newer.add(&entry(number as u64, Act::new("alice", *action, *subject), Stage::Done));
        }
        newer
    }

    fn entry(number: u64, act: Act, stage: Stage) -> Entry {
        Entry { number, at_s: 7, previous: String::new(), act, stage }
    }

    #[test]
    fn what_was_taken_is_repeated_and_what_was_given_is_lost() {
        let found = newer(&[
            ("device.revoke", "dev-00000000000000000000000001 key_compromise"),
            ("device.revoke", "dev-00000000000000000000000002 certificate_hold"),
            ("device.release-hold", "dev-00000000000000000000000002"),
            ("release.revoke", "kiosk@2 abc"),
            ("rollout.pause", "r-1"),
            ("rollout.pause", "r-2"),
            ("rollout.resume", "r-2"),
            ("rollout.abort", "r-3"),
            ("rollout.pause", "r-4"),
            ("rollout.roll-back", "r-4 r-5 kiosk@1 screens stay black"),
            ("account.disable", "bob"),
            ("account.offboard", "eve: 1 sessions, 0 API tokens, 0 enrollment tokens"),
            ("account.ungrant", "carol: operator of demo"),
            ("token.remove", "tok-1 of bob"),
            ("worker.remove", "builder"),
            ("account.add", "person dan: admin"),
            ("release.publish", "kiosk@3"),
            ("session.end", "web"),
            ("account.refused", "from 192.0.2.1"),
        ]);
        assert_eq!(found.revoked.len(), 1);
        assert_eq!(found.releases.len() + found.tokens.len() + found.workers.len(), 3);
        assert_eq!(found.aborted, BTreeSet::from(["r-3".to_owned(), "r-4".to_owned()]));
        assert_eq!(found.paused, BTreeSet::from(["r-1".to_owned()]));
        assert_eq!(found.accounts.len(), 3, "{found:#?}");
        assert_eq!(
            found.lost,
            [
                "7 alice rollout.roll-back r-4 r-5 kiosk@1 screens stay black",
                "7 alice account.add person dan: admin",
                "7 alice release.publish kiosk@3"
            ]
        );
    }

    #[test]
    fn a_hold_counts_until_it_is_ended_and_its_reason_can_begin_like_an_end() {
        let device = |number| format!("dev-0000000000000000000000000{number}");
        let found = newer(&[
            ("device.hold", &format!("{} the till is open", device(1))),
            ("device.hold", &format!("{} until 900 it counts", device(2))),
            ("device.hold", &format!("{} until 5 o'clock", device(3))),
            ("device.hold", &format!("{} a mistake", device(4))),
            ("device.unhold", &device(4)),
        ]);
        let holds: Vec<_> = found.holds.into_values().collect();
        let hold = |reason: &str, until_s| (reason.to_owned(), until_s);
        let expected = [
            hold("the till is open", None),
            hold("it counts", Some(900)),
            hold("until 5 o'clock", None),
        ];
        assert_eq!(holds, expected);
        assert!(found.lost.is_empty());
    }

    #[test]
    fn the_last_certified_key_of_a_device_counts_and_an_intent_is_none() {
        let mut newer = Newer::default();
        let device = "dev-00000000000000000000000001";
        let act = |digest: &str| Act::new("server", "certificate.renew", device).of(digest);
        newer.add(&entry(0, act("key a"), Stage::Intent));
        newer.add(&entry(1, act("key b"), Stage::Intent));
        newer.add(&entry(2, act("certificate a"), Stage::Outcome { intent: 0 }));
        newer.add(&entry(3, act("certificate b"), Stage::Outcome { intent: 1 }));
        newer.add(&entry(4, act("key c"), Stage::Intent));
        let failed = Stage::Failed { intent: 4, reason: "no".into() };
        newer.add(&entry(5, act("key c"), failed));
        newer.add(&entry(6, act("key d"), Stage::Intent));
        assert_eq!(newer.keys.values().collect::<Vec<_>>(), ["key b"]);
        assert!(newer.lost.is_empty());
    }

    #[test]
    fn an_act_that_cannot_be_read_is_lost_and_said_and_their_number_is_bounded() {
        let found = newer(&[("device.revoke", "everything"), ("worker.remove", "")]);
        assert_eq!(found.lost.len(), 2);
        let many = vec![("profile.save", "kiosk 1"); LISTED_MAX + 3];
        let found = newer(&many);
        assert_eq!((found.lost.len(), found.lost_more), (LISTED_MAX, 3));
    }
}
