//! Enrollment: tokens out, certificates for them.

use crate::app::{App, now_s};
use crate::db::devices::Certified;
use crate::db::{self, Tx, tpms};
use crate::error::AppError;
use crate::server::Addresses;
use crate::service::renewal::{self, Begun, End};
use crate::service::{signing, tpm};
use fleeti_core::canonical::{is_sha256_hex, sha256_hex};
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::api::{CreateEnrollment, Enrollment, Event};
use fleeti_core::wire::device::{
    EnrollmentRecord, ProvedRenewRequest, RenewRequest, RenewResponse, RenewalWindow,
};
use fleeti_core::wire::problem::Code;
use fleeti_pki::attestation::key::{CHANNEL_BYTES, Purpose};
use fleeti_pki::certificate::{self, Protection};
use fleeti_pki::csr;
use fleeti_pki::signer::fast;
use fleeti_signer::wire::{Occasion, Request};

/// Validity of a device's certificate.
pub const CERTIFICATE_S: u64 = 30 * 86_400;
/// Longest validity of a token.
const TOKEN_S_MAX: u32 = 30 * 86_400;

/// Makes a one-time token; the answer is the only place where it can be seen.
///
/// # Errors
/// [`Code::Invalid`] for a validity out of range.
pub async fn create(
    app: &App,
    fleet: &FleetId,
    request: &CreateEnrollment,
    addresses: &Addresses,
) -> Result<Enrollment, AppError> {
    let mut tx = app.db.write().await?;
    let enrollment = issue(app, &mut tx, fleet, request.valid_s, None, addresses).await?;
    app.audit(&mut tx, now_s(), "admin", "enrollment.create", fleet.as_str()).await?;
    tx.commit().await?;
    Ok(enrollment)
}

/// Whom a token is for.
pub(super) struct Reservation<'a> {
    /// The device.
    pub device: &'a DeviceId,
    /// SHA-256 of its TPM's endorsement key.
    pub ek_sha256: Option<&'a str>,
}

/// Issues a token, for any device or for one.
pub(super) async fn issue(
    app: &App,
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    valid_s: u32,
    reservation: Option<&Reservation<'_>>,
    addresses: &Addresses,
) -> Result<Enrollment, AppError> {
    if !(60..=TOKEN_S_MAX).contains(&valid_s) {
        return Err(AppError::new(
            Code::Invalid,
            format!("valid_s is {valid_s}, 60 to {TOKEN_S_MAX} are allowed"),
        ));
    }
    if let Some(ek) = reservation.and_then(|r| r.ek_sha256).filter(|ek| !is_sha256_hex(ek)) {
        return Err(AppError::new(
            Code::Invalid,
            format!("ek_sha256 is {ek:?}, not 64 lower-case hexadecimal digits"),
        ));
    }
    let token = hex::encode(rand::random::<[u8; 32]>());
    let expires_s = app.now_s() + u64::from(valid_s);
    let reserved = reservation.map(|r| (r.device, r.ek_sha256));
    db::enrollments::insert(tx, &sha256_hex(token.as_bytes()), fleet, expires_s, reserved).await?;
    Ok(Enrollment { record: record(app, addresses, token), expires_s })
}

/// Where this server is, and a token.
pub(super) fn record(app: &App, addresses: &Addresses, token: String) -> EnrollmentRecord {
    let name = app.config.names.first().map_or("localhost", String::as_str);
    EnrollmentRecord {
        https_url: format!("https://{name}:{}", addresses.https.port()),
        mqtt_address: format!("{name}:{}", addresses.mqtt.port()),
        root_sha256: app.pki.root_sha256.clone(),
        token,
        proxy: app.config.device_proxy.clone(),
    }
}

/// A new certificate for a device whose certificate has ended, or whose intermediate no longer
/// counts: no token, no visit. The TPM that the device is known by says over this connection that
/// it holds the key.
///
/// # Errors
/// [`Code::Forbidden`] for a device that is unknown or revoked, or whose proof is none;
/// [`Code::TooMany`] before it is due.
pub async fn renew_by_proof(
    app: &App,
    request: &ProvedRenewRequest,
    channel: Channel,
) -> Result<RenewResponse, AppError> {
    claimed_key_sha256(&request.csr_pem)?;
    // One answer for every reason: a guesser learns no ids.
    let refused = || {
        AppError::new(Code::Forbidden, "this device cannot renew here").hint("provision it anew")
    };
    let device = &request.device;
    db::devices::admission(app.db.pool(), device)
        .await?
        .filter(|a| a.revoked_s.is_none())
        .ok_or_else(refused)?;
    let tpm = tpms::get(app.db.pool(), device).await?.ok_or_else(refused)?;
    tpm::check_key(&tpm, &request.key, &request.csr_pem, channel, |c| Purpose::renewal(device, c))
        .map_err(|e| {
            tracing::warn!(%device, "a device does not renew by its TPM: {e}");
            refused()
        })?;
    issue_next(
        app,
        device,
        &request.csr_pem,
        (tpm::protection(&tpm), renewal::end_of(app, device).await?),
    )
    .await
}

/// What both ends derive of a connection; nothing where it is not TLS 1.3.
pub type Channel = Option<[u8; CHANNEL_BYTES]>;

/// A new certificate for a device that still has a good one, over a new key or the same.
///
/// # Errors
/// [`Code::Invalid`] for a bad request; [`Code::Forbidden`] for a key outside the TPM where the
/// last one was in it; [`Code::TooMany`] before it is due.
pub async fn renew(
    app: &App,
    device: &DeviceId,
    request: &RenewRequest,
    channel: Channel,
) -> Result<RenewResponse, AppError> {
    claimed_key_sha256(&request.csr_pem)?;
    let protection = match &request.key {
        Some(sent) => {
            let tpm = tpms::get(app.db.pool(), device).await?;
            let tpm = tpm.ok_or_else(|| {
                AppError::new(Code::Forbidden, "this device has shown no TPM")
                    .hint("show it with POST /tpm")
            })?;
            tpm::check_key(&tpm, sent, &request.csr_pem, channel, |c| Purpose::renewal(device, c))?;
            tpm::protection(&tpm)
        }
        None => Protection::Software,
    };
    issue_next(app, device, &request.csr_pem, (protection, End::OfDate)).await
}

/// The next certificate of a device that is known; the one that it has where none is due.
pub(super) async fn issue_next(
    app: &App,
    device: &DeviceId,
    csr_pem: &str,
    (protection, end): (Protection, End),
) -> Result<RenewResponse, AppError> {
    // Whoever is root on a device would else take its identity along in a file.
    let refused = || {
        AppError::new(
            Code::Forbidden,
            "the key of this device is in its TPM, and so is the next one",
        )
        .hint("send what the TPM says of the key, or revoke the device and provision it anew")
    };
    if protection == Protection::Software
        && db::certificates::has_key_in_tpm(app.db.pool(), device).await?
    {
        return Err(refused());
    }
    let standing = match renewal::begin(app, device, &proved_key_sha256(csr_pem)?, end).await? {
        Begun::Again(certified) => return Ok(renewed(app, &certified)),
        Begun::New(standing) => standing,
    };
    let next = async {
        let certified = certify(app, device, csr_pem, (Occasion::Renewal, protection))
            .await
            .map_err(bad_request)?;
        renewal::keep(app, device, &certified).await?;
        Ok::<_, AppError>(certified)
    };
    match next.await {
        Ok(certified) => {
            app.publish(Event::Device { id: device.clone() });
            Ok(renewed(app, &certified))
        }
        Err(e) => {
            renewal::give_back(app, device, &standing).await;
            Err(e)
        }
    }
}

fn renewed(app: &App, certified: &Certified) -> RenewResponse {
    RenewResponse {
        certificate_chain_pem: chain_pem(app, certified),
        renewal: window_of(certified.not_after_s),
    }
}

/// When a certificate with this end is to be renewed: from a third of its validity to half of it.
/// Whoever comes last has 15 days left, so that a signer which is dead for two weeks takes no
/// device offline.
#[must_use]
pub fn window_of(not_after_s: u64) -> RenewalWindow {
    let start_s = not_after_s.saturating_sub(CERTIFICATE_S / 3 * 2);
    RenewalWindow { start_s, end_s: start_s + CERTIFICATE_S / 6 }
}

/// The signer refuses a request whose proof is wrong.
pub(super) fn bad_request(e: AppError) -> AppError {
    if e.code() == Code::Conflict {
        AppError::new(Code::Invalid, format!("csr_pem: {e}"))
    } else {
        e
    }
}

/// The key that a request is about; its proof is the signer's to check.
pub(super) fn claimed_key_sha256(csr_pem: &str) -> Result<String, AppError> {
    let key = csr::claimed_key(csr_pem)
        .map_err(|e| AppError::new(Code::Invalid, format!("csr_pem: {e}")))?;
    Ok(sha256_hex(&key))
}

/// The key of a request whose proof holds: for what is answered without the signer.
pub(super) fn proved_key_sha256(csr_pem: &str) -> Result<String, AppError> {
    let key = csr::check_with(csr_pem, fast::verify)
        .map_err(|e| AppError::new(Code::Invalid, format!("csr_pem: {e}")))?;
    Ok(sha256_hex(key.public_key_der()))
}

/// Has a device's certificate signed.
pub(super) async fn certify(
    app: &App,
    device: &DeviceId,
    csr_pem: &str,
    (occasion, protection): (Occasion, Protection),
) -> Result<Certified, AppError> {
    let trust = app.trust.load_full();
    let issuer = trust.device();
    let request = Request::CertifyDevice {
        device: device.clone(),
        csr_pem: csr_pem.to_owned(),
        valid_s: CERTIFICATE_S,
        protection,
        occasion,
        issuer: Some(issuer.sha256.clone()),
    };
    let der = signing::certificate(&app.signer, request).await?;
    let leaf = certificate::from_der(&der)?;
    Ok(Certified {
        key_sha256: certificate::key_sha256(&leaf)?,
        serial: certificate::serial(&leaf),
        pem: certificate::der_to_pem(&der)?,
        certificate_sha256: sha256_hex(&der),
        not_after_s: certificate::not_after_s(&leaf),
        issuer: issuer.sha256.clone(),
        is_in_tpm: protection != Protection::Software,
    })
}

/// A certificate with its issuer, PEM.
pub(super) fn chain_pem(app: &App, certified: &Certified) -> String {
    let trust = app.trust.load_full();
    let issuer =
        trust.devices().find(|a| a.sha256 == certified.issuer).unwrap_or_else(|| trust.device());
    format!("{}{}", certified.pem, issuer.pem)
}
