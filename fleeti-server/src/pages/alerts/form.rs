//! Reads the forms of alerts: an empty field stands for a missing value.

use crate::error::AppError;
use fleeti_core::alert::{Kind, Severity};
use fleeti_core::id::FleetId;
use fleeti_core::wire::alerts::{CreateSilence, SetRule};
use fleeti_core::wire::email::AddReceiver;
use fleeti_core::wire::problem::Code;
use serde::Deserialize;
use std::fmt::Display;
use std::str::FromStr;

fn invalid(e: impl Display) -> AppError {
    AppError::new(Code::Invalid, e.to_string())
}

fn some<T: FromStr>(text: &str) -> Result<Option<T>, AppError>
where
    T::Err: Display,
{
    let text = text.trim();
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(invalid) }
}

/// A note of an operator.
#[derive(Deserialize)]
pub struct NoteForm {
    #[serde(default)]
    pub note: String,
}

/// A rule.
#[derive(Deserialize)]
pub struct RuleForm {
    kind: Kind,
    threshold: u64,
    severity: Severity,
    /// Names with commas between them.
    #[serde(default)]
    fleets: String,
    /// A checkbox.
    enabled: Option<String>,
    /// The tag of the rule that the page showed.
    #[serde(default)]
    pub etag: String,
}

/// Fleets with commas between their names.
fn fleets(text: &str) -> Result<Vec<FleetId>, AppError> {
    let names = text.split([',', ' ']).filter(|name| !name.is_empty());
    names.map(|name| name.parse().map_err(invalid)).collect()
}

/// A receiver of e-mail.
#[derive(Deserialize)]
pub struct EmailForm {
    address: String,
    /// Names with commas between them.
    #[serde(default)]
    fleets: String,
    severity: Severity,
}

impl EmailForm {
    pub fn request(self) -> Result<AddReceiver, AppError> {
        Ok(AddReceiver {
            address: self.address.trim().parse().map_err(invalid)?,
            fleets: fleets(&self.fleets)?,
            severity: self.severity,
        })
    }
}

impl TryFrom<RuleForm> for SetRule {
    type Error = AppError;
    fn try_from(form: RuleForm) -> Result<Self, AppError> {
        Ok(Self {
            kind: form.kind,
            threshold: form.threshold,
            severity: form.severity,
            fleets: fleets(&form.fleets)?,
            enabled: form.enabled.is_some(),
        })
    }
}

/// A silence.
#[derive(Deserialize)]
pub struct SilenceForm {
    #[serde(default)]
    rule: String,
    #[serde(default)]
    fleet: String,
    #[serde(default)]
    device: String,
    /// Hours until it begins.
    #[serde(default)]
    after_hours: u64,
    hours: u64,
    reason: String,
}

impl SilenceForm {
    pub fn request(self, now_s: u64) -> Result<CreateSilence, AppError> {
        let from_s = now_s.saturating_add(self.after_hours.saturating_mul(3600));
        Ok(CreateSilence {
            rule: some(&self.rule)?,
            fleet: some(&self.fleet)?,
            device: some(&self.device)?,
            from_s: Some(from_s),
            valid_s: self.hours.saturating_mul(3600),
            reason: self.reason,
        })
    }
}
