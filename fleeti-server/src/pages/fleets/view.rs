//! The page of a fleet: its appraisal policy and its secrets.

use super::page::{Page, Result, see, show};
use super::view;
use crate::error::AppError;
use actix_web::web::{Data, Form, Path};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_control::attestation::policy;
use fleeti_control::context::Context;
use fleeti_control::{devices, secrets};
use fleeti_core::attestation::Level;
use fleeti_core::attestation::policy::{Firmware, Policy};
use fleeti_core::id::FleetId;
use fleeti_core::wire::api::Fleet;
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::vault::FleetSecret;
use serde::Deserialize;

/// One minimum level of the policy.
struct Row {
    name: &'static str,
    label: &'static str,
    help: &'static str,
    chosen: &'static str,
}

#[derive(Template)]
#[template(path = "fleet.html", blocks = ["main"])]
struct One {
    page: Page,
    fleet: String,
    devices: u64,
    rows: [Row; 3],
    levels: Vec<(&'static str, &'static str)>,
    pinned: bool,
    proved_releases: bool,
    known: Vec<String>,
    secrets: Vec<(String, String)>,
}

pub async fn show(
    cx: Data<Context>,
    request: HttpRequest,
    fleet: Path<FleetId>,
) -> Result<HttpResponse> {
    let known = devices::fleets(&cx).await?.into_iter().find(|f| f.name == *fleet);
    let known = known.ok_or_else(|| AppError::not_found("fleet", fleet.as_str()))?;
    let policy = policy::of(&cx, &fleet);
    let secrets = secrets::secrets(&cx, &fleet).await?;
    show!(
        request,
        One::of(Page::new("/", &request, &["fleet", "device"]), &known, &policy, &secrets)
    )
}

impl One {
    fn of(page: Page, fleet: &Fleet, policy: &Policy, secrets: &[FleetSecret]) -> Self {
        let code = |level: Option<Level>| level.map_or("", Level::code);
        let row = |name, label, level, help| Row { name, label, help, chosen: code(level) };
        let known = match &policy.firmware {
            Firmware::Pinned => Vec::new(),
            Firmware::Known { pcrs, binaries } => {
                pcrs.iter().map(|r| r.join(" ")).chain(binaries.iter().cloned()).collect()
            }
        };
        Self {
            page,
            fleet: fleet.name.to_string(),
            devices: fleet.devices,
            rows: [
                row(
                    "update",
                    "Minimum level to receive updates",
                    policy.update,
                    "Devices below this level are blocked; the server offers them the update once they reach it.",
                ),
                row(
                    "success",
                    "Minimum level to count as success in a rollout",
                    policy.success,
                    "From L2 on, the report of a device is not enough: its TPM must prove that it runs the release.",
                ),
                row(
                    "secrets",
                    "Minimum level to receive secrets",
                    policy.secrets,
                    "A device gets the secrets below at each boot, once its TPM has proved this level.",
                ),
            ],
            levels: Level::ALL.into_iter().map(|l| (l.code(), l.title())).collect(),
            pinned: policy.firmware == Firmware::Pinned,
            proved_releases: policy.proved_releases,
            known,
            secrets: secrets
                .iter()
                .map(|s| (s.name.to_string(), view::time(s.changed_s)))
                .collect(),
        }
    }
}

/// The policy form.
#[derive(Deserialize)]
pub struct Sent {
    update: String,
    success: String,
    secrets: String,
    firmware: String,
    pcrs: String,
    /// Browsers do not send an unchecked box.
    #[serde(default)]
    proved_releases: Option<String>,
}

impl TryFrom<Sent> for Policy {
    type Error = AppError;
    fn try_from(sent: Sent) -> std::result::Result<Self, AppError> {
        let invalid = |e: String| AppError::new(Code::Invalid, e);
        let level = |text: &str| match text {
            "" => Ok(None),
            code => code
                .parse()
                .map(Some)
                .map_err(|e: fleeti_core::attestation::NoLevel| invalid(e.to_string())),
        };
        let pair = |line: &str| -> Option<[String; 2]> {
            let mut words = line.split_whitespace().map(str::to_owned);
            match (words.next(), words.next(), words.next()) {
                (Some(first), Some(second), None) => Some([first, second]),
                _ => None,
            }
        };
        let wrong = |l: &str| {
            invalid(format!(
                "firmware: {l:?} is neither PCR 0, a space and PCR 2, nor the digest of an EFI binary"
            ))
        };
        let firmware = match sent.firmware.as_str() {
            "pinned" => Firmware::Pinned,
            _ => {
                let lines = sent.pcrs.lines().map(str::trim).filter(|l| !l.is_empty());
                let (binaries, pairs): (Vec<_>, Vec<_>) =
                    lines.partition(|l| !l.contains(char::is_whitespace));
                let pcrs = pairs.into_iter().map(|l| pair(l).ok_or_else(|| wrong(l)));
                Firmware::Known {
                    pcrs: pcrs.collect::<std::result::Result<_, AppError>>()?,
                    binaries: binaries.into_iter().map(str::to_owned).collect(),
                }
            }
        };
        let (update, success, secrets) =
            (level(&sent.update)?, level(&sent.success)?, level(&sent.secrets)?);
        Ok(Self {
            update,
            success,
            secrets,
            firmware,
            proved_releases: sent.proved_releases.is_some(),
        })
    }
}

pub async fn set_policy(
    cx: Data<Context>,
    fleet: Path<FleetId>,
    form: Form<Sent>,
) -> Result<HttpResponse> {
    policy::set(&cx, &fleet, &form.into_inner().try_into()?).await?;
    Ok(see(&format!("/fleets/{fleet}")))
}
