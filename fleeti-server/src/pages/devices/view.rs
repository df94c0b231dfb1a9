//! Pages of devices.

use super::evidence_view::Proved;
use super::page::{Notice, Page, Result, see, show};
use super::view::{self, DeviceRow};
use actix_web::web::{Data, Form, Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_control::attestation::challenge;
use fleeti_control::context::Context;
use fleeti_control::devices;
use fleeti_control::devices::Filter;
use fleeti_control::enrollment::pairing;
use fleeti_control::secrets;
use fleeti_control::trust::revocation;
use fleeti_core::id::{DeviceId, FleetId, Version};
use fleeti_core::update::State;
use fleeti_core::wire::alarm::AlarmKind;
use fleeti_core::wire::api::{Device, Pair, RevocationReason, Revoke, SecureBoot};
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::vault::RecoveryKeyStatus;
use serde::Deserialize;

const ROWS: u32 = 100;

#[derive(Template)]
#[template(path = "devices.html", blocks = ["main"])]
struct List {
    page: Page,
    fleet: Option<String>,
    trouble: bool,
    devices: Vec<DeviceRow>,
    next: Option<String>,
}

#[derive(Deserialize)]
pub struct Selection {
    fleet: Option<FleetId>,
    trouble: Option<String>,
    #[serde(default)]
    after: String,
}

impl Selection {
    fn filter(&self) -> Filter<'_> {
        match (&self.fleet, self.trouble.is_some()) {
            (_, true) => Filter::InTrouble,
            (Some(fleet), false) => Filter::Fleet(fleet),
            (None, false) => Filter::All,
        }
    }
}

/// The form that approves a pending enrollment.
#[derive(Deserialize)]
pub struct Shown {
    code: String,
    fleet: FleetId,
}

pub async fn pair(cx: Data<Context>, form: Form<Shown>) -> Result<HttpResponse> {
    let Shown { code, fleet } = form.into_inner();
    let paired = pairing::enter(&cx, &Pair { code, fleet }).await?;
    Ok(see(&format!("/devices?fleet={}", paired.fleet)))
}

pub async fn list(
    cx: Data<Context>,
    request: HttpRequest,
    selection: Query<Selection>,
) -> Result<HttpResponse> {
    let filter = selection.filter();
    let found = devices::page(&cx, filter, &selection.after, ROWS).await?;
    show!(request, List::of(Page::new("/devices", &request, &["device"]), filter, &found))
}

impl List {
    fn of(page: Page, filter: Filter<'_>, found: &[Device]) -> Self {
        let (fleet, trouble, which) = match filter {
            Filter::Fleet(fleet) => (Some(fleet.to_string()), false, format!("fleet={fleet}&")),
            Filter::InTrouble => (None, true, "trouble=1&".to_owned()),
            Filter::All => (None, false, String::new()),
        };
        let next = (found.len() == ROWS as usize).then(|| found.last()).flatten();
        let next = next.map(|last| format!("/devices?{which}after={}", last.id));
        Self { page, fleet, trouble, devices: found.iter().map(DeviceRow::from).collect(), next }
    }
}

#[derive(Template)]
#[template(path = "device.html", blocks = ["main"])]
struct One {
    page: Page,
    d: DeviceRow,
    revoked: bool,
    on_hold: bool,
    trouble: Option<Notice>,
    forgivable: Option<String>,
    boot: Vec<(&'static str, String)>,
    update: Vec<(&'static str, String)>,
    certificate: Vec<(&'static str, String)>,
    telemetry: Vec<(&'static str, String)>,
    proved: Proved,
    /// When the server got its recovery key, and when the key was last shown.
    recovery: Option<(String, Option<String>)>,
}

pub async fn show(
    cx: Data<Context>,
    request: HttpRequest,
    id: Path<DeviceId>,
) -> Result<HttpResponse> {
    let device = devices::get(&cx, id.as_str()).await?;
    let proved = Proved::of(challenge::get(&cx, &id).await?, device.online);
    let recovery = match secrets::recovery_key_status(&cx, &id).await {
        Ok(status) => Some(status),
        Err(e) if e.code() == Code::NotFound => None,
        Err(e) => return Err(e.into()),
    };
    show!(
        request,
        One::of(Page::new("/devices", &request, &["device"]), &device, proved, recovery.as_ref())
    )
}

impl One {
    fn of(
        page: Page,
        device: &Device,
        proved: Proved,
        recovery: Option<&RecoveryKeyStatus>,
    ) -> Self {
        let (trouble, forgivable) = trouble(device);
        let trouble = trouble
            .or_else(|| secrets::has_lost_its_seal(device, recovery.is_some()).then(unsealed));
        Self {
            page,
            d: DeviceRow::from(device),
            revoked: device.revoked,
            on_hold: device.revocation_reason == Some(RevocationReason::CertificateHold),
            trouble,
            forgivable,
            boot: boot(device),
            update: update(device),
            certificate: vec![
                ("SHA-256", mono(&device.certificate_sha256)),
                ("valid until", view::instant(device.certificate_not_after_s)),
                (
                    "state",
                    device.revocation_reason.map_or_else(
                        || "good".to_owned(),
                        |r| format!("revoked: {}", r.as_str().replace('_', " ")),
                    ),
                ),
            ],
            telemetry: telemetry(device),
            proved,
            recovery: recovery.map(|r| (view::time(r.kept_s), r.shown_s.map(view::time))),
        }
    }
}

/// Escapes a value for HTML. Text from a device is never markup.
fn escaped(text: &str) -> String {
    askama::filters::escape(text, askama::filters::Html)
        .map_or_else(|_| String::new(), |t| t.to_string())
}

fn mono(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
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

fn trouble(device: &Device) -> (Option<Notice>, Option<String>) {
    if let Some(alarm) = &device.alarm {
        let message = format!("There is an alarm: {}.", AlarmKind::words(alarm));
        let hint = AlarmKind::of(alarm).map(|kind| for_device(kind.hint(), &device.id));
        return (Some(Notice { message, hint }), None);
    }
    if let Some(attestation_failure) = &device.attestation_failure {
        let message = format!("Attestation failed: {attestation_failure}.");
        let hint = "The device is offered no update and gets no secrets. Its attestation is below, with measurements by PCR. The server requests new evidence every 15 minutes.";
        return (Some(Notice { message, hint: Some(hint.into()) }), None);
    }
    if let Some(SecureBoot { problem: Some(problem), .. }) = &device.secure_boot {
        let message = format!("Secure Boot differs from what was enrolled: {problem}.");
        let hint = "The server signs no release for it. Inspect the device; if its keys are lost, provision it again.";
        return (Some(Notice { message, hint: Some(hint.into()) }), None);
    }
    if let Some(SecureBoot { refused: Some(why), .. }) = &device.secure_boot {
        return (
            Some(Notice {
                message: "The device refuses the change of its Secure Boot keys.".into(),
                hint: Some(why.clone()),
            }),
            None,
        );
    }
    match &device.update {
        Some(State::RolledBack { target, reason }) => {
            let (why, evidence) = view::reason(reason);
            let message = format!("Version {target} was rolled back: {why}.");
            (Some(Notice { message, hint: Some(evidence.to_owned()) }), Some(target.to_string()))
        }
        Some(State::Failed { target, code }) => (
            Some(Notice {
                message: format!("Version {target} could not be installed: {code:?}."),
                hint: None,
            }),
            None,
        ),
        _ => (None, None),
    }
}

fn boot(device: &Device) -> Vec<(&'static str, String)> {
    let Some(boot) = &device.boot else { return vec![] };
    let verity = view::verity(boot.verity);
    let badge = |tone: &str, text: &str| format!("<span class=\"badge {tone}\">{text}</span>");
    let secure = if boot.secure_boot { badge("good", "enabled") } else { badge("bad", "disabled") };
    vec![
        (
            "release",
            format!("<a href=\"/releases/{0}\">{0}</a>", escaped(&boot.running.to_string())),
        ),
        ("slot", view::slot(boot.slot).to_owned()),
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
    ]
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

fn update(device: &Device) -> Vec<(&'static str, String)> {
    let desired =
        device.desired.as_ref().map_or_else(|| "none".to_owned(), |r| escaped(&r.to_string()));
    let mut rows = vec![
        ("desired version", desired),
        ("state", device.update.as_ref().map_or("unknown", |s| s.name()).replace('_', " ")),
        ("connected", if device.online { "yes".into() } else { "no".into() }),
        ("last seen", view::time(device.last_seen_s)),
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
        rows.push(("downloaded", format!("{} of {}", view::bytes(p.done), view::bytes(p.total))));
    }
    rows
}

fn telemetry(device: &Device) -> Vec<(&'static str, String)> {
    let Some(t) = &device.telemetry else { return vec![] };
    let kib = |n: u64| view::bytes(n.saturating_mul(1024));
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

pub async fn revoke(
    cx: Data<Context>,
    id: Path<DeviceId>,
    form: Form<Revoke>,
) -> Result<HttpResponse> {
    revocation::revoke(&cx, &id, form.reason).await?;
    Ok(see(&format!("/devices/{id}")))
}

pub async fn release_hold(cx: Data<Context>, id: Path<DeviceId>) -> Result<HttpResponse> {
    revocation::release_hold(&cx, &id).await?;
    Ok(see(&format!("/devices/{id}")))
}

#[derive(Deserialize)]
pub struct Forgiven {
    version: Version,
}

pub async fn forgive(
    cx: Data<Context>,
    id: Path<DeviceId>,
    form: Form<Forgiven>,
) -> Result<HttpResponse> {
    devices::forgive(&cx, &id, &form.version).await?;
    Ok(see(&format!("/devices/{id}")))
}
