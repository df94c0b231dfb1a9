//! What the pages of devices show: lists and one device, its facts as rows of term and value. These
//! values are HTML: text of the device is escaped here.

use super::attestation::AttestationCard;
use super::chart::Chart;
use super::commands::CommandRow;
use super::past::DriftRow;
use super::timeline::{EntryRow, FIRST};
use super::why::WhyCard;
use crate::pages::alerts::AlertLine;
use crate::pages::display::{Badge, Fact, day, escaped, instant, query_value, reason, time};
use crate::pages::page::{Notice, Page};
use askama::Template;
use fleeti_control::details::{DeviceDetails, DeviceList as DeviceListDetails};
use fleeti_control::devices::search::Wanted;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::size::bytes;
use fleeti_core::update::State;
use fleeti_core::wire::alarm::AlarmKind;
use fleeti_core::wire::api::{Device, RevocationReason, SecureBoot};
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::boot::{BootSecret, BootSecretPhase, Slot, Verity};
use fleeti_core::wire::labels::{View, devices_in_words, revocation_phrase};
use fleeti_core::wire::vault::RecoveryKeyStatus;

/// Maximum number of devices on a page.
pub const ROWS: u32 = 100;

/// A row of a list of devices.
pub struct DeviceRow {
    pub id: String,
    pub name: Option<String>,
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
            name: d.name.clone(),
            fleet: d.fleet.to_string(),
            version: running.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string),
            target: d
                .desired
                .as_ref()
                .filter(|t| running.as_ref() != Some(t))
                .map(ToString::to_string),
            slot: d.boot.as_ref().map_or("", |b| slot(b.slot)),
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

/// The path of the list of devices that a filter matches.
pub fn list_path(filter: &str) -> String {
    format!("/devices?filter={}", query_value(filter))
}

/// A filter that is refused: the text, a line that points at the column, and what to write.
pub struct RefusedFilter {
    pub shown: String,
    pub error: String,
    pub hint: String,
}

/// A saved view.
pub struct ViewLink {
    pub name: String,
    pub filter: String,
    pub path: String,
}

/// What can be done with all devices of a filter.
pub struct Matched {
    pub count: u64,
    /// As in `2 devices`.
    pub devices: String,
    pub phrase: String,
}

/// Devices that are listed without a filter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// Those that need attention.
    Trouble,
    /// Those that run another release than their desired one.
    Drifting,
}

impl Special {
    fn query(self) -> &'static str {
        match self {
            Self::Trouble => "trouble=1&",
            Self::Drifting => "drifting=1&",
        }
    }
    fn title(self) -> &'static str {
        match self {
            Self::Trouble => "that need attention",
            Self::Drifting => "that run another release than desired",
        }
    }
}

/// The list of devices.
#[derive(Template)]
#[template(path = "devices.html", blocks = ["main"])]
pub struct DeviceList {
    page: Page,
    fleet: Option<String>,
    /// Which devices of all; none for those of a filter.
    special: Option<Special>,
    devices: Vec<DeviceRow>,
    next: Option<String>,
    filter: String,
    refused: Option<RefusedFilter>,
    matched: Option<Matched>,
    views: Vec<ViewLink>,
    label_keys: Vec<String>,
}

impl DeviceList {
    /// Devices that are listed without a filter: of a fleet, or of all.
    pub fn special(
        page: Page,
        (special, fleet): (Special, Option<&FleetId>),
        found: &[Device],
    ) -> Self {
        let of_fleet = fleet.map(|fleet| format!("fleet={fleet}&")).unwrap_or_default();
        Self {
            page,
            fleet: fleet.map(ToString::to_string),
            special: Some(special),
            devices: found.iter().map(DeviceRow::from).collect(),
            next: next(found, &format!("{}{of_fleet}", special.query())),
            filter: String::new(),
            refused: None,
            matched: None,
            views: vec![],
            label_keys: vec![],
        }
    }

    pub fn of(page: Page, wanted: Wanted<'_>, found: DeviceListDetails) -> Self {
        let DeviceListDetails { devices, matched, refused, views, label_keys } = found;
        let filter = wanted.filter.trim();
        let fleet = wanted.fleet.map(|fleet| format!("fleet={fleet}&")).unwrap_or_default();
        let query = match filter.is_empty() {
            true => fleet,
            false => format!("{fleet}filter={}&", query_value(filter)),
        };
        let is_of_all = wanted.fleet.is_none();
        Self {
            page,
            fleet: wanted.fleet.map(ToString::to_string),
            special: None,
            devices: devices.iter().map(DeviceRow::from).collect(),
            next: next(&devices, &query),
            filter: wanted.filter.to_owned(),
            refused: refused.map(|e| RefusedFilter {
                shown: format!(
                    "{}\n{}",
                    wanted.filter.replace(['\n', '\r', '\t'], " "),
                    e.pointer()
                ),
                error: format!("Column {}: {}", e.column, e.message),
                hint: e.hint,
            }),
            matched: matched.filter(|count| *count > 0 && is_of_all).map(|count| Matched {
                count,
                devices: devices_in_words(count),
                phrase: revocation_phrase(count),
            }),
            views: views.into_iter().map(ViewLink::from).collect(),
            label_keys: label_keys.into_iter().map(|info| info.key.to_string()).collect(),
        }
    }
}

/// The path of the page after a full one.
fn next(found: &[Device], query: &str) -> Option<String> {
    let last = found.last().filter(|_| found.len() == ROWS as usize)?;
    Some(format!("/devices?{query}after={}", last.id))
}

impl From<View> for ViewLink {
    fn from(view: View) -> Self {
        let path = list_path(&view.filter);
        Self { name: view.name.to_string(), filter: view.filter, path }
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
    why: WhyCard,
    certificate: Vec<Fact>,
    telemetry: Vec<Fact>,
    attestation: AttestationCard,
    recovery: Option<RecoveryCard>,
    note: String,
    labels: Vec<(String, String)>,
    label_keys: Vec<String>,
    replaced_by: Option<String>,
    alerts: Vec<AlertLine>,
    drift: Vec<DriftRow>,
    chart: Option<Chart>,
    commands: Vec<CommandRow>,
    /// The newest entries of its timeline.
    entries: Vec<EntryRow>,
    /// The release that it can be put back to.
    back: Option<String>,
    /// Names of support keys; none if they are not known.
    support_keys: Vec<String>,
}

impl DevicePage {
    pub fn of(page: Page, details: DeviceDetails) -> Self {
        let DeviceDetails {
            device,
            why,
            attestation,
            recovery_key,
            has_lost_its_seal,
            label_keys,
            alerts,
            drift,
            metrics,
            commands,
            timeline,
            way_back,
            support_keys,
        } = details;
        let trouble = trouble(&device).or_else(|| has_lost_its_seal.then(unsealed));
        Self {
            page,
            commands: commands.into_iter().map(CommandRow::from).collect(),
            d: DeviceRow::from(&device),
            revoked: device.revoked,
            on_hold: device.revocation_reason == Some(RevocationReason::CertificateHold),
            trouble,
            forgivable: forgivable(&device),
            boot: boot(&device),
            update: update(&device),
            why: WhyCard::of(&why),
            certificate: certificate(&device),
            telemetry: telemetry(&device),
            attestation: AttestationCard::of(attestation, device.online),
            recovery: recovery_key.as_ref().map(RecoveryCard::from),
            note: device.note.unwrap_or_default(),
            labels: device
                .labels
                .iter()
                .map(|(key, value)| (key.to_string(), value.clone()))
                .collect(),
            label_keys: label_keys.into_iter().map(|info| info.key.to_string()).collect(),
            replaced_by: device.replaced_by.map(|id| id.to_string()),
            alerts: alerts.iter().map(AlertLine::from).collect(),
            drift: drift.differences.iter().map(DriftRow::from).collect(),
            chart: Chart::of(&metrics),
            entries: timeline.entries.iter().take(FIRST).map(EntryRow::from).collect(),
            back: way_back.map(|release| release.to_string()),
            support_keys,
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

fn mono(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
}

/// Why an operator must look at a device, the gravest reason first.
fn trouble(device: &Device) -> Option<Notice> {
    graver_than_an_update(device).or_else(|| failed_update(device))
}

/// The version that a device rolled back, unless something graver must be done first.
fn forgivable(device: &Device) -> Option<String> {
    match &device.update {
        Some(State::RolledBack { target, .. }) if graver_than_an_update(device).is_none() => {
            Some(target.to_string())
        }
        _ => None,
    }
}

fn graver_than_an_update(device: &Device) -> Option<Notice> {
    alarm(device).or_else(|| attestation_failure(device)).or_else(|| secure_boot_problem(device))
}

/// A device whose data partition was sealed and is not any more.
fn unsealed() -> Notice {
    Notice {
        message: "Its data partition was sealed to its TPM, and it now reports that it is not.".into(),
        hint: Some("The server gives it no secrets. An attacker may have replaced the partition: provision the device again.".into()),
    }
}

/// A hint whose commands name the device.
fn for_device(hint: &str, device: &DeviceId) -> String {
    hint.replace("DEVICE", device.as_str())
}

fn alarm(device: &Device) -> Option<Notice> {
    let alarm = device.alarm.as_ref()?;
    Some(Notice {
        message: format!("There is an alarm: {}.", AlarmKind::words(alarm)),
        hint: AlarmKind::of(alarm).map(|kind| for_device(kind.hint(), &device.id)),
    })
}

fn attestation_failure(device: &Device) -> Option<Notice> {
    let failure = device.attestation_failure.as_ref()?;
    Some(Notice {
        message: format!("Attestation failed: {failure}."),
        hint: Some("The device is offered no update and gets no secrets. Its attestation is below, with measurements by PCR. The server requests new evidence every 15 minutes.".into()),
    })
}

fn secure_boot_problem(device: &Device) -> Option<Notice> {
    match device.secure_boot.as_ref()? {
        SecureBoot { problem: Some(problem), .. } => Some(Notice {
            message: format!("Secure Boot differs from what was enrolled: {problem}."),
            hint: Some("The server signs no release for it. Inspect the device; if its keys are lost, provision it again.".into()),
        }),
        SecureBoot { refused: Some(why), .. } => Some(Notice {
            message: "The device refuses the change of its Secure Boot keys.".into(),
            hint: Some(why.clone()),
        }),
        SecureBoot { .. } => None,
    }
}

fn failed_update(device: &Device) -> Option<Notice> {
    match device.update.as_ref()? {
        State::RolledBack { target, reason: why } => {
            let (why, evidence) = reason(why);
            Some(Notice {
                message: format!("Version {target} was rolled back: {why}."),
                hint: Some(evidence.to_owned()),
            })
        }
        State::Failed { target, code } => Some(Notice {
            message: format!("Version {target} could not be installed: {code:?}."),
            hint: None,
        }),
        _ => None,
    }
}

/// What the device reported of its boot; empty before its first report.
fn boot(device: &Device) -> Vec<Fact> {
    let Some(boot) = &device.boot else { return vec![] };
    let verity = verity(boot.verity);
    let badge = |tone: &str, text: &str| format!("<span class=\"badge {tone}\">{text}</span>");
    let secure = if boot.secure_boot { badge("good", "enabled") } else { badge("bad", "disabled") };
    let release = escaped(&boot.running.to_string());
    let mut facts = vec![
        ("release", format!("<a href=\"/releases/{release}\">{release}</a>")),
        ("slot", slot(boot.slot).to_owned()),
        ("dm-verity", badge(verity.tone, &verity.text)),
        ("Secure Boot", secure),
        ("Secure Boot keys", boot_keys(device)),
        (
            "data partition",
            match boot.sealed_data {
                Some(true) => badge("good", "sealed to its TPM"),
                Some(false) => badge("warn", "not encrypted"),
                None => "not reported".into(),
            },
        ),
        ("PCR 11", boot.pcr11.as_deref().map_or_else(|| "no TPM".to_owned(), mono)),
        ("boot id", mono(&boot.boot_id)),
    ];
    facts.extend(boot.secrets.iter().map(boot_secret));
    facts
}

fn boot_secret(secret: &BootSecret) -> Fact {
    let tone = match secret.phase {
        _ if secret.alarm().is_some() => "bad",
        BootSecretPhase::Settled => "good",
        BootSecretPhase::Trial | BootSecretPhase::Searching => "warn",
    };
    let (name, text) = (mono(secret.name.as_str()), escaped(&secret.describe(instant)));
    ("boot secret", format!("{name} <span class=\"badge {tone}\">{text}</span>"))
}

fn slot(slot: Slot) -> &'static str {
    match slot {
        Slot::A => "A",
        Slot::B => "B",
    }
}

fn verity(verity: Verity) -> Badge {
    match verity {
        Verity::Verified => Badge::new("good", "verified"),
        Verity::Corrupted => Badge::new("bad", "corrupted"),
        Verity::Absent => Badge::new("warn", "absent"),
    }
}

fn boot_keys(device: &Device) -> String {
    match &device.secure_boot {
        None => "keys of the organisation".into(),
        Some(SecureBoot { epoch, change_pending: true, .. }) => {
            format!("its own, epoch {epoch} of db; a change is pending")
        }
        Some(SecureBoot { epoch, .. }) => format!("its own, epoch {epoch} of db"),
    }
}

/// The state of its update, and of its connection.
fn update(device: &Device) -> Vec<Fact> {
    let desired =
        device.desired.as_ref().map_or_else(|| "none".to_owned(), |r| escaped(&r.to_string()));
    let mut rows = vec![
        ("desired version", desired),
        ("state", device.update.as_ref().map_or("unknown", |s| s.name()).replace('_', " ")),
        ("connected", if device.online { "yes".into() } else { "no".into() }),
        ("last seen", time(device.last_seen_s)),
        (
            "trust bundle",
            if device.trust_bundle == 0 {
                "none installed".into()
            } else {
                format!("version {}", device.trust_bundle)
            },
        ),
    ];
    if let Some(p) = device.progress {
        rows.push(("downloaded", format!("{} of {}", bytes(p.done), bytes(p.total))));
    }
    rows
}

/// Its certificate.
fn certificate(device: &Device) -> Vec<Fact> {
    let state = device.revocation_reason.map_or_else(
        || "good".to_owned(),
        |r| format!("revoked: {}", r.as_str().replace('_', " ")),
    );
    vec![
        ("SHA-256", mono(&device.certificate_sha256)),
        ("valid until", instant(device.certificate_not_after_s)),
        ("state", state),
    ]
}

/// Its last telemetry; empty before the first.
fn telemetry(device: &Device) -> Vec<Fact> {
    let Some(t) = &device.telemetry else { return vec![] };
    let kib = |n: u64| bytes(n.saturating_mul(1024));
    let mut rows = vec![
        ("uptime", format!("{} h {} min", t.uptime_s / 3600, t.uptime_s / 60 % 60)),
        ("load", format!("{}.{:02}", t.load_milli / 1000, t.load_milli % 1000 / 10)),
        ("memory", format!("{} of {}", kib(t.memory_used_kib), kib(t.memory_total_kib))),
        ("agent", kib(t.agent_memory_kib)),
    ];
    if t.data_total_kib > 0 {
        rows.push((
            "data partition",
            format!("{} of {}", kib(t.data_used_kib), kib(t.data_total_kib)),
        ));
    }
    rows
}
