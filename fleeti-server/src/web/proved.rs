//! What a device proves, on its page.

use super::page::{Result, see};
use super::shown::{self, Badge};
use crate::app::AppRef;
use crate::service::attestation;
use actix_web::HttpResponse;
use actix_web::web::{Data, Path};
use fleeti_core::attestation::{Claim, Level, Tier};
use fleeti_core::id::DeviceId;
use fleeti_core::wire::attestation::{Attestation, MeasuredRegister};

/// One claim, in words.
pub struct ClaimRow {
    pub tier: Badge,
    pub finding: String,
    pub source: String,
    pub raise: Option<String>,
}

/// What the card shows.
pub struct Proved {
    pub level: Badge,
    pub note: String,
    pub tpm: Option<String>,
    pub claims: Vec<ClaimRow>,
    pub registers: Vec<MeasuredRegister>,
    pub has_evidence: bool,
    pub may_ask: bool,
    pub may_accept: bool,
}

/// What each source of evidence proves on x86, and what it does not; SECURITY.md has more.
pub const LIMITS: &[(&str, &str)] = &[
    (
        "TPM quote",
        "Which programs firmware started, in their order, since the last start. Not what happened since: a system that was taken over while it runs still shows how it started.",
    ),
    (
        "Endorsement certificate",
        "That a maker vouches for this chip. Not that nobody listens between chip and processor: whoever may solder can replay a start to a TPM that has a bus of its own. A TPM in software is as good as its host.",
    ),
    (
        "Firmware, registers 0 and 2",
        "That the firmware measured itself as before. Firmware that was taken over measures what it likes, and management engines and cards with memory access measure nothing.",
    ),
    (
        "Secure Boot, register 7",
        "That only programs signed by this device's own keys could start, while firmware does what it should.",
    ),
    (
        "Root hash",
        "That every block of the system which is read is the release's. Not the data partition, and not what programs do with it.",
    ),
    (
        "The device's own report",
        "Nothing. It is shown beside what is proved, and decides nothing that the fleet's policy asks a proof for.",
    ),
];

impl Proved {
    pub fn of(found: Attestation, online: bool) -> Self {
        let note = match (&found.result, &found.tpm) {
            (None, None) => "It has shown no TPM.".to_owned(),
            (None, Some(_)) => "Its TPM has not answered yet.".into(),
            (Some(result), _) => {
                let release = result
                    .release
                    .as_ref()
                    .map_or_else(|| "no release that is known".to_owned(), ToString::to_string);
                let silence = if found.is_fresh { "" } else { "; silent since" };
                format!("Measured: {release}, {}{silence}.", shown::instant(result.appraised_s))
            }
        };
        let tpm = found.tpm.as_ref().map(|t| {
            format!("{}, {}", t.maker.as_deref().unwrap_or("nobody vouches for it"), t.description)
        });
        let has_evidence = found.result.is_some();
        let accepted = |c: &Claim| c.code == "firmware-accepted";
        let claims = found.result.map(|r| r.claims).unwrap_or_default();
        Self {
            level: level(found.level),
            note,
            has_evidence,
            may_ask: online && found.tpm.is_some(),
            may_accept: found.is_fresh
                && found.level >= Level::UnverifiedTpm
                && !claims.iter().any(accepted),
            tpm,
            claims: claims.into_iter().map(ClaimRow::from).collect(),
            registers: found.registers,
        }
    }
}

impl From<Claim> for ClaimRow {
    fn from(claim: Claim) -> Self {
        let tier = match claim.tier {
            Tier::Affirming => Badge::new("good", "holds"),
            Tier::Warning => Badge::new("warn", "warning"),
            Tier::Contraindicated => Badge::new("bad", "wrong"),
            Tier::None => Badge::new("", "unknown"),
        };
        Self { tier, finding: claim.finding, source: claim.source, raise: claim.raise }
    }
}

fn level(level: Level) -> Badge {
    let tone = match level {
        Level::SelfReported => "bad",
        Level::Token | Level::UnverifiedTpm | Level::ObservedBoot => "warn",
        Level::VerifiedBoot | Level::VerifiedFirmware => "good",
    };
    Badge::new(tone, format!("{} {}", level.code(), level.title()))
}

pub async fn ask(app: Data<AppRef>, id: Path<DeviceId>) -> Result<HttpResponse> {
    attestation::ask_now(&app, &id).await?;
    Ok(see(&format!("/devices/{id}")))
}

pub async fn accept_firmware(app: Data<AppRef>, id: Path<DeviceId>) -> Result<HttpResponse> {
    attestation::accept_firmware(&app, &id).await?;
    Ok(see(&format!("/devices/{id}")))
}
