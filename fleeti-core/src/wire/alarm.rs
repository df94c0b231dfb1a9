//! Alarms of a device. An alarm is a text `CODE: WORDS`: the code says which kind it is and what an
//! operator can do, the words say what happened.

use std::fmt::Display;

/// The kind of an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AlarmKind {
    /// The server has shown the device two histories of the audit log.
    LogSplit,
    /// The newest checkpoint of the audit log is older than the image allows.
    LogStale,
    /// The server has not proved for days that the audit log only grew.
    LogUnproved,
    /// The server has an older trust bundle than the device.
    BundleOlder,
    /// The device could not use a file of its state.
    StateUnusable,
    /// The device's clock cannot be right.
    ClockWrong,
    /// The server refuses the device's reports.
    ReportsRefused,
    /// Two clients use the device's certificate.
    CertificateShared,
    /// A new value of a secret of the device's boot did not reach the server.
    SecretRefused,
}

impl AlarmKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::LogSplit,
        Self::LogStale,
        Self::LogUnproved,
        Self::BundleOlder,
        Self::StateUnusable,
        Self::ClockWrong,
        Self::ReportsRefused,
        Self::CertificateShared,
        Self::SecretRefused,
    ];

    /// The code at the start of an alarm.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::LogSplit => "log_split",
            Self::LogStale => "log_stale",
            Self::LogUnproved => "log_unproved",
            Self::BundleOlder => "bundle_older",
            Self::StateUnusable => "state_unusable",
            Self::ClockWrong => "clock_wrong",
            Self::ReportsRefused => "reports_refused",
            Self::CertificateShared => "certificate_shared",
            Self::SecretRefused => "secret_refused",
        }
    }

    /// The kind of an alarm; `None` for a text without a known code, as other versions may send.
    #[must_use]
    pub fn of(alarm: &str) -> Option<Self> {
        let (code, _) = alarm.split_once(": ")?;
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The words of an alarm, without its code. An alarm without a known code is returned whole.
    #[must_use]
    pub fn words(alarm: &str) -> &str {
        match (Self::of(alarm), alarm.split_once(": ")) {
            (Some(_), Some((_, words))) => words,
            _ => alarm,
        }
    }

    /// An alarm of this kind.
    #[must_use]
    pub fn text(self, words: impl Display) -> String {
        format!("{}: {words}", self.code())
    }

    /// What the alarm means, and what an operator can do.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::LogSplit => {
                "The device refuses releases of the other history. If you restored the server or its log from a backup, sign a log reset (docs/guides/recover-a-server.md). Otherwise an attacker may control the server: verify the log with `fleeti audit verify --key audit.pub --remember FILE`."
            }
            Self::LogStale => {
                "The server may withhold newer checkpoints, or the signing service may not answer. See the page Trust. When checkpoints arrive again, clear the alarm with `fleeti device command DEVICE clear-alarm`."
            }
            Self::LogUnproved => {
                "The server announces checkpoints but sends no consistency proof. Verify the log with `fleeti audit verify --key audit.pub --remember FILE`. Then clear the alarm with `fleeti device command DEVICE clear-alarm`."
            }
            Self::BundleOlder => {
                "The server was restored from an older backup, or the device is connected to another server. Publish the newest bundle again with `fleeti pki bundle publish`. Then clear the alarm with `fleeti device command DEVICE clear-alarm`."
            }
            Self::StateUnusable => {
                "A power cut or a worn disk can damage a file. The device renamed it to NAME.broken and continues without it (docs/guides/recover-a-device.md). Clear the alarm with `fleeti device command DEVICE clear-alarm`; if it returns, replace the disk."
            }
            Self::ClockWrong => {
                "The device uses the last signed time instead, and needs no action. If the alarm stays, replace the battery of its clock."
            }
            Self::ReportsRefused => {
                "The state on this page is not current. The alarm ends when the server accepts a report. If it stays, request one with `fleeti device command DEVICE report`, and see the log of the server."
            }
            Self::CertificateShared => {
                "An attacker may have copied the key of the device. Revoke its certificate and enroll the device again, unless its network drops connections often. The alarm ends when the device uses its next key."
            }
            Self::SecretRefused => {
                "If the value is wrong, set the right one with `fleeti secret set`. If the network accepts it only later, do nothing: the device keeps it, and uses it when the old value no longer reaches the server. To try it now: `fleeti device command DEVICE try-secrets`. The alarm ends when a new value reaches the server."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_an_alarm_leads_to_its_kind_and_its_words() {
        for kind in AlarmKind::ALL {
            let alarm = kind.text("it had 3: now 5");
            assert_eq!(AlarmKind::of(&alarm), Some(kind));
            assert_eq!(AlarmKind::words(&alarm), "it had 3: now 5");
        }
    }

    #[test]
    fn an_alarm_without_a_known_code_has_no_kind_and_keeps_its_words() {
        for odd in ["", "log_split", "LOG_SPLIT: x", "the disk: full", " log_split: x"] {
            assert_eq!(AlarmKind::of(odd), None, "{odd}");
            assert_eq!(AlarmKind::words(odd), odd);
        }
    }

    #[test]
    fn every_kind_has_a_code_and_a_hint_of_its_own() {
        for (n, kind) in AlarmKind::ALL.into_iter().enumerate() {
            for other in &AlarmKind::ALL[n + 1..] {
                assert_ne!(kind.code(), other.code());
                assert_ne!(kind.hint(), other.hint());
            }
        }
    }
}
