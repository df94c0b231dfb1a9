//! Compares the firmware of a device, as the device reports it, with what was enrolled.

use crate::wire::api::SecureBoot;
use crate::wire::boot::{BootSummary, FirmwareKeys};
use serde::{Deserialize, Serialize};

/// A device's Secure Boot keys, as stored by the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootState {
    /// The keys, wrapped for the signing service, base64.
    pub wrapped: String,
    /// Epoch of the newest db key.
    pub epoch: u32,
    /// Content of the variables after all writes.
    pub expected: FirmwareKeys,
}

/// The Secure Boot state of a device. `expected` is the content of its variables after the change
/// with the number `expected.change`.
#[must_use]
pub fn assess(epoch: u32, expected: &FirmwareKeys, boot: Option<&BootSummary>) -> SecureBoot {
    let firmware = boot.and_then(|b| b.firmware.as_ref());
    let change_pending = firmware.map_or(0, |f| f.change) < expected.change;
    let refused = firmware.and_then(|f| f.refused.clone()).filter(|_| change_pending);
    SecureBoot {
        epoch,
        change_pending,
        refused,
        problem: boot.and_then(|b| problem(expected, b)).map(str::to_owned),
    }
}

/// How the variables differ from what was enrolled; `None` if they do not.
fn problem(expected: &FirmwareKeys, boot: &BootSummary) -> Option<&'static str> {
    let Some(found) = &boot.firmware else {
        return Some("the firmware has no Secure Boot variables");
    };
    if found.setup_mode {
        return Some(
            "the firmware is in setup mode: key enrollment did not finish, and any EFI binary may boot",
        );
    }
    if !boot.secure_boot {
        return Some("Secure Boot is off");
    }
    if found.pk != expected.pk || found.kek != expected.kek {
        return Some("PK or KEK is not the one made for this device");
    }
    let is_made = found.change >= expected.change;
    if is_made && (found.db != expected.db || !expected.dbx.iter().all(|d| found.dbx.contains(d))) {
        return Some("db or dbx differ from what was written");
    }
    // While a change is pending, db has its old or its new content. Both have a key in common with
    // the expected content.
    let shares = found.db.iter().any(|d| expected.db.contains(d));
    (!is_made && !shares).then_some("db has no key that was made for this device")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::boot::{Slot, Verity};

    fn keys(change: u64, db: &[&str], dbx: &[&str]) -> FirmwareKeys {
        let texts = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect();
        FirmwareKeys {
            setup_mode: false,
            pk: Some("pk".into()),
            kek: texts(&["kek"]),
            db: texts(db),
            dbx: texts(dbx),
            change,
            refused: None,
        }
    }

    fn boot(firmware: Option<FirmwareKeys>, secure_boot: bool) -> BootSummary {
        let running = "kiosk@1".parse().unwrap();
        BootSummary {
            boot_id: "b".into(),
            running,
            slot: Slot::A,
            verity: Verity::Verified,
            secure_boot,
            pcr11: None,
            firmware,
            sealed_data: None,
            secrets: vec![],
        }
    }

    #[test]
    fn only_what_was_enrolled_is_without_a_problem() {
        let expected = keys(2, &["new"], &["v1"]);
        let good = keys(2, &["new"], &["v1", "other"]);
        let with = |f: &dyn Fn(&mut FirmwareKeys)| {
            let mut k = good.clone();
            f(&mut k);
            boot(Some(k), true)
        };
        let problem = |b: &BootSummary| assess(2, &expected, Some(b)).problem;
        assert_eq!(problem(&boot(Some(good.clone()), true)), None);
        let cases = [
            (boot(None, true), "no Secure Boot variables"),
            (boot(Some(good.clone()), false), "off"),
            (with(&|k| k.setup_mode = true), "setup mode"),
            (with(&|k| k.pk = None), "PK or KEK"),
            (with(&|k| k.pk = Some("other".into())), "PK or KEK"),
            (with(&|k| k.kek.push("other".into())), "PK or KEK"),
            (with(&|k| k.db.push("other".into())), "db or dbx"),
            (with(&|k| k.db.clear()), "db or dbx"),
            (with(&|k| k.dbx.clear()), "db or dbx"),
        ];
        for (boot, word) in cases {
            let found = problem(&boot).unwrap_or_default();
            assert!(found.contains(word), "{word}: {found:?}");
        }
    }

    #[test]
    fn a_change_that_is_on_its_way_is_no_problem_as_long_as_a_key_of_ours_is_in_db() {
        let expected = keys(2, &["new"], &["v1"]);
        let between = assess(2, &expected, Some(&boot(Some(keys(1, &["old", "new"], &[])), true)));
        assert_eq!((between.change_pending, between.problem), (true, None));
        let foreign = assess(2, &expected, Some(&boot(Some(keys(1, &["foreign"], &[])), true)));
        assert!(foreign.problem.is_some());
        assert_eq!(assess(1, &expected, None).problem, None);
    }
}
