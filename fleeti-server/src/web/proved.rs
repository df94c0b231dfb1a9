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
    pub may_ask: bool,
    pub may_accept: bool,
}

impl Proved {
    pub fn of(found: Attestation, online: bool) -> Self {
        let note = match (&found.result, &found.tpm) {
            (None, None) => "It has shown no TPM.".to_owned(),
            (None, Some(_)) => "Its TPM has not answered yet.".into(),
            (Some(result), _) => {
                let release = result.release.as_ref().map_or_else(|| "no release that is known".to_owned(), ToString::to_string);
                let silence = if found.is_fresh { "" } else { "; silent since" };
                format!("Measured: {release}, {}{silence}.", shown::instant(result.appraised_s))
            }
        };
        let tpm = found.tpm.as_ref().map(|t| format!("{}, {}", t.maker.as_deref().unwrap_or("nobody vouches for it"), t.description));
        let accepted = |c: &Claim| c.code == "firmware-accepted";
        let claims = found.result.map(|r| r.claims).unwrap_or_default();
        Self {
            level: level(found.level),
            note,
            may_ask: online && found.tpm.is_some(),
            may_accept: found.is_fresh && found.level >= Level::UnverifiedTpm && !claims.iter().any(accepted),
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
