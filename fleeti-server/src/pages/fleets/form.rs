//! Reads the policy form.

use crate::error::AppError;
use fleeti_core::attestation::policy::{Firmware, Policy};
use fleeti_core::attestation::{Level, NoLevel};
use fleeti_core::windows::{Job, Window, Windows};
use fleeti_core::wire::problem::Code;
use serde::Deserialize;

/// The policy form, as a browser sends it.
#[derive(Deserialize)]
pub struct PolicyForm {
    update: String,
    success: String,
    secrets: String,
    firmware: String,
    pcrs: String,
    /// Browsers do not send an unchecked box.
    #[serde(default)]
    proved_releases: Option<String>,
    /// Windows, one for each line.
    #[serde(default)]
    download: String,
    #[serde(default)]
    install: String,
    #[serde(default)]
    reboot: String,
    #[serde(default)]
    user_delay_min: String,
    #[serde(default)]
    download_kib_s: String,
    /// The tag of the policy that the page showed.
    #[serde(default)]
    pub etag: String,
}

impl TryFrom<PolicyForm> for Policy {
    type Error = AppError;
    fn try_from(form: PolicyForm) -> Result<Self, AppError> {
        Ok(Self {
            firmware: match form.firmware.as_str() {
                "pinned" => Firmware::Pinned,
                _ => known(&form.pcrs)?,
            },
            update: level(&form.update)?,
            success: level(&form.success)?,
            secrets: level(&form.secrets)?,
            proved_releases: form.proved_releases.is_some(),
            windows: Windows {
                download: lines(Job::Download, &form.download)?,
                install: lines(Job::Install, &form.install)?,
                reboot: lines(Job::Reboot, &form.reboot)?,
                user_delay_min: number("user_delay_min", &form.user_delay_min)?,
                download_kib_s: number("download_kib_s", &form.download_kib_s)?,
            },
        })
    }
}

/// Windows: one per line. A wrong one is named with its number and its column.
fn lines(job: Job, text: &str) -> Result<Vec<Window>, AppError> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let read = |(n, line): (usize, &str)| {
        line.parse().map_err(|e| invalid(format!("windows.{job}[{n}]: {e}")))
    };
    lines.enumerate().map(read).collect()
}

/// A number; an empty text stands for none.
fn number(name: &str, text: &str) -> Result<Option<u32>, AppError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |_| invalid(format!("windows.{name}: {text:?} is not a number"));
    text.parse().map(Some).map_err(wrong)
}

fn invalid(detail: impl Into<String>) -> AppError {
    AppError::new(Code::Invalid, detail)
}

/// A minimum level; an empty text stands for no device.
fn level(text: &str) -> Result<Option<Level>, AppError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|e: NoLevel| invalid(e.to_string()))
}

/// The accepted firmware: one per line.
fn known(text: &str) -> Result<Firmware, AppError> {
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
    let (binaries, pairs): (Vec<_>, Vec<_>) = lines.partition(|l| !l.contains(char::is_whitespace));
    Ok(Firmware::Known {
        pcrs: pairs.into_iter().map(pcr_pair).collect::<Result<_, _>>()?,
        binaries: binaries.into_iter().map(str::to_owned).collect(),
    })
}

/// PCR 0 and PCR 2 of a line.
fn pcr_pair(line: &str) -> Result<[String; 2], AppError> {
    let mut words = line.split_whitespace().map(str::to_owned);
    match (words.next(), words.next(), words.next()) {
        (Some(pcr0), Some(pcr2), None) => Ok([pcr0, pcr2]),
        _ => Err(invalid(format!(
            "firmware: {line:?} is neither PCR 0, a space and PCR 2, nor the digest of an EFI binary"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(firmware: &str, pcrs: &str) -> PolicyForm {
        PolicyForm {
            update: "L1".into(),
            success: String::new(),
            secrets: String::new(),
            firmware: firmware.into(),
            pcrs: pcrs.into(),
            proved_releases: None,
            download: String::new(),
            install: String::new(),
            reboot: String::new(),
            user_delay_min: String::new(),
            download_kib_s: String::new(),
            etag: String::new(),
        }
    }

    #[test]
    fn each_line_is_a_window_and_a_wrong_one_is_named_with_its_column() {
        let lines = "02:00-05:00\r\n\r\n sat,sun 01:00-02:00 Europe/Berlin\r\n";
        let reboot = PolicyForm { reboot: lines.into(), ..form("pinned", "") };
        assert_eq!(Policy::try_from(reboot).unwrap().windows.reboot.len(), 2);
        let lines = "02:00-05:00\r\nsat,sun 01:00-02:00 Europe/Berln\r\n";
        let wrong = PolicyForm { install: lines.into(), ..form("pinned", "") };
        let refused = Policy::try_from(wrong).unwrap_err().to_string();
        assert!(refused.starts_with("windows.install[1]: column 21 of the window"), "{refused}");
        let wrong = PolicyForm { user_delay_min: "soon".into(), ..form("pinned", "") };
        assert!(Policy::try_from(wrong).unwrap_err().to_string().contains("user_delay_min"));
    }

    #[test]
    fn a_line_is_two_pcrs_or_the_digest_of_a_binary() {
        let policy = Policy::try_from(form("known", " aa  bb \r\n\r\ncc\r\n")).unwrap();
        let known = Firmware::Known {
            pcrs: vec![["aa".to_owned(), "bb".to_owned()]],
            binaries: vec!["cc".to_owned()],
        };
        assert_eq!((policy.firmware, policy.success), (known, None));
        let refused = Policy::try_from(form("known", "aa bb cc")).unwrap_err().to_string();
        assert!(refused.contains("\"aa bb cc\" is neither"), "{refused}");
        assert_eq!(
            Policy::try_from(form("pinned", "aa bb cc")).unwrap().firmware,
            Firmware::Pinned
        );
    }

    #[test]
    fn an_unknown_level_is_refused() {
        let refused = Policy::try_from(PolicyForm { success: "L9".into(), ..form("pinned", "") });
        assert!(refused.unwrap_err().to_string().contains("L9"));
    }
}
