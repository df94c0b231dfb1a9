//! What the pages of devices show.

use super::attestation::AttestationCard;
use super::facts;
use crate::pages::display::{Badge, Fact, day, time};
use crate::pages::page::{Notice, Page};
use askama::Template;
use fleeti_control::details::DeviceDetails;
use fleeti_control::devices::Filter;
use fleeti_core::id::DeviceId;
use fleeti_core::update::State;
use fleeti_core::wire::api::{Device, RevocationReason};
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::vault::RecoveryKeyStatus;

/// Maximum number of devices on a page.
pub const ROWS: u32 = 100;

/// A row of a list of devices.
pub struct DeviceRow {
    pub id: String,
    pub fleet: String,
    pub version: String,
    pub target: Option<String>,
    pub slot: &'static str,
    pub health: Badge,
    pub last_seen: String,
    pub certificate_until: String,
}

impl From<&Device> for DeviceRow {
    fn from(d: &Device) -> Self {
        let running = d.boot.as_ref().map(|b| b.running.clone());
        Self {
            id: d.id.to_string(),
            fleet: d.fleet.to_string(),
            version: running.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string),
            target: d
                .desired
                .as_ref()
                .filter(|t| running.as_ref() != Some(t))
                .map(ToString::to_string),
            slot: d.boot.as_ref().map_or("", |b| facts::slot(b.slot)),
            health: health(d),
            last_seen: time(d.last_seen_s),
            certificate_until: day(d.certificate_not_after_s),
        }
    }
}

/// The state of a device, as one badge.
fn health(d: &Device) -> Badge {
    if d.revoked {
        return Badge::new("bad", "revoked");
    }
    if d.attestation_failure.is_some()
        || d.secure_boot.as_ref().is_some_and(|s| s.problem.is_some())
    {
        return Badge::new("bad", "not trusted");
    }
    match (&d.update, d.online) {
        (Some(State::RolledBack { .. }), _) => Badge::new("bad", "rolled back"),
        (Some(State::Failed { .. }), _) => Badge::new("bad", "update failed"),
        (Some(State::Staging { .. }), _) => {
            let percent =
                d.progress.map(|p| format!(" {} %", p.done.saturating_mul(100) / p.total.max(1)));
            Badge::new("busy", format!("staging{}", percent.unwrap_or_default()))
        }
        (Some(State::Staged { .. }), _) => Badge::new("busy", "staged"),
        (Some(State::Armed { .. }), _) => Badge::new("busy", "rebooting"),
        (Some(State::Trying { .. }), _) => Badge::new("busy", "trying"),
        (Some(State::Unconfirmed { .. }), _) => Badge::new("warn", "unconfirmed"),
        (Some(State::Idle), true) => Badge::new("good", "healthy"),
        (Some(State::Idle), false) => Badge::new("", "offline"),
        (None, true) => Badge::new("busy", "connected"),
        (None, false) => Badge::new("", "not seen yet"),
    }
}

/// The list of devices.
#[derive(Template)]
#[template(path = "devices.html", blocks = ["main"])]
pub struct DeviceList {
    page: Page,
    fleet: Option<String>,
    trouble: bool,
    devices: Vec<DeviceRow>,
    next: Option<String>,
}

impl DeviceList {
    pub fn of(page: Page, filter: Filter<'_>, found: &[Device]) -> Self {
        let query = match filter {
            Filter::Fleet(fleet) => format!("fleet={fleet}&"),
            Filter::InTrouble => "trouble=1&".to_owned(),
            Filter::All => String::new(),
        };
        let next = (found.len() == ROWS as usize).then(|| found.last()).flatten();
        Self {
            page,
            fleet: match filter {
                Filter::Fleet(fleet) => Some(fleet.to_string()),
                Filter::InTrouble | Filter::All => None,
            },
            trouble: matches!(filter, Filter::InTrouble),
            devices: found.iter().map(DeviceRow::from).collect(),
            next: next.map(|last| format!("/devices?{query}after={}", last.id)),
        }
    }
}

/// The page of one device.
#[derive(Template)]
#[template(path = "device.html", blocks = ["main"])]
pub struct DevicePage {
    page: Page,
    d: DeviceRow,
    revoked: bool,
    on_hold: bool,
    trouble: Option<Notice>,
    /// The version that the device rolled back, which an operator may allow again.
    forgivable: Option<String>,
    boot: Vec<Fact>,
    update: Vec<Fact>,
    certificate: Vec<Fact>,
    telemetry: Vec<Fact>,
    attestation: AttestationCard,
    recovery: Option<RecoveryCard>,
}

impl DevicePage {
    pub fn of(page: Page, details: DeviceDetails) -> Self {
        let DeviceDetails { device, attestation, recovery_key, has_lost_its_seal } = details;
        let trouble = facts::trouble(&device).or_else(|| has_lost_its_seal.then(facts::unsealed));
        Self {
            page,
            d: DeviceRow::from(&device),
            revoked: device.revoked,
            on_hold: device.revocation_reason == Some(RevocationReason::CertificateHold),
            trouble,
            forgivable: facts::forgivable(&device),
            boot: facts::boot(&device),
            update: facts::update(&device),
            certificate: facts::certificate(&device),
            telemetry: facts::telemetry(&device),
            attestation: AttestationCard::of(attestation, device.online),
            recovery: recovery_key.as_ref().map(RecoveryCard::from),
        }
    }
}

/// When the server got the recovery key of a device, and when it was last shown.
struct RecoveryCard {
    stored: String,
    shown: Option<String>,
}

impl From<&RecoveryKeyStatus> for RecoveryCard {
    fn from(status: &RecoveryKeyStatus) -> Self {
        Self { stored: time(status.kept_s), shown: status.shown_s.map(time) }
    }
}

/// The page that shows a recovery key.
#[derive(Template)]
#[template(path = "recovery.html")]
pub struct RecoveryKeyPage {
    page: Page,
    device: String,
    key: String,
}

impl RecoveryKeyPage {
    pub fn of(page: Page, device: &DeviceId, key: &Secret) -> Self {
        Self { page, device: device.to_string(), key: key.expose().to_owned() }
    }
}
