//! Enrollment: tokens out, certificates for them.

use crate::app::{App, new_id, now_s};
use crate::db::devices::Certified;
use crate::db::{self, from_seconds};
use crate::error::AppError;
use crate::service::signing;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::api::{CreateEnrollment, Enrollment, Event};
use fleeti_core::wire::device::{EnrollRequest, EnrollResponse, EnrollmentRecord, RenewRequest, RenewResponse};
use fleeti_core::wire::problem::Code;
use fleeti_pki::certificate::{self, Protection};
use fleeti_pki::csr::{self, ProvedKey};
use fleeti_signer::wire::Request;

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
    addresses: &crate::server::Addresses,
) -> Result<Enrollment, AppError> {
    if !(60..=TOKEN_S_MAX).contains(&request.valid_s) {
        return Err(AppError::new(Code::Invalid, format!("valid_s is {}, 60 to {TOKEN_S_MAX} are allowed", request.valid_s)));
    }
    let token = hex::encode(rand::random::<[u8; 32]>());
    let expires_s = now_s() + u64::from(request.valid_s);
    let mut tx = app.db.write().await?;
    db::enrollments::insert(&mut tx, &sha256_hex(token.as_bytes()), fleet, expires_s).await?;
    app.audit(&mut tx, now_s(), "admin", "enrollment.create", fleet.as_str()).await?;
    tx.commit().await?;
    let name = app.config.names.first().map_or("localhost", String::as_str);
    let record = EnrollmentRecord {
        https_url: format!("https://{name}:{}", addresses.https.port()),
        mqtt_address: format!("{name}:{}", addresses.mqtt.port()),
        root_sha256: app.pki.root_sha256.clone(),
        token,
    };
    Ok(Enrollment { record, expires_s })
}

/// A certificate for a token. The same key may ask again with the same token, because an answer can be lost; any
/// other key may not.
///
/// # Errors
/// [`Code::Forbidden`] for a token that is unknown, expired or used; [`Code::Invalid`] for a bad request.
pub async fn enroll(app: &App, request: &EnrollRequest) -> Result<EnrollResponse, AppError> {
    // One answer for every reason: a guesser learns nothing.
    let refused =
        || AppError::new(Code::Forbidden, "the token is unknown, expired or used").hint("make a new one with `fleeti device enrollment`");
    if request.token.len() != 64 {
        return Err(refused());
    }
    let key = csr::check(&request.csr_pem).map_err(|e| AppError::new(Code::Invalid, format!("csr_pem: {e}")))?;
    let key_sha256 = sha256_hex(key.public_key_der());
    let token_sha256 = sha256_hex(request.token.as_bytes());
    let now = now_s();
    // Looked at twice: the signer is asked between, and nobody else waits for it.
    let admitted = admission(&mut app.db.write().await?, &token_sha256, &key_sha256, now).await?.ok_or_else(refused)?;
    let device = match admitted.device {
        Some(device) => device,
        None => new_id("dev").parse().map_err(AppError::internal)?,
    };
    let certified = certify(app, &device, &request.csr_pem, &key).await?;
    let mut tx = app.db.write().await?;
    let fleet = match admission(&mut tx, &token_sha256, &key_sha256, now).await? {
        Some(Admission { device: used_by, fleet }) if used_by.as_ref().is_none_or(|d| *d == device) => fleet,
        _ => return Err(refused()),
    };
    db::devices::upsert(&mut tx, &device, &fleet, &certified, now).await?;
    db::enrollments::consume(&mut tx, &token_sha256, &device, &key_sha256).await?;
    app.audit(&mut tx, now, "device", "device.enroll", device.as_str()).await?;
    tx.commit().await?;
    app.publish(Event::Device { id: device.clone() });
    Ok(EnrollResponse { device, fleet, certificate_chain_pem: chain_pem(app, &certified)? })
}

/// What a token is good for.
struct Admission {
    /// The device that used it already, with the same key.
    device: Option<DeviceId>,
    fleet: FleetId,
}

/// What a token is good for to a key; `None` when it is unknown, expired or used by another key, or its device is
/// revoked.
async fn admission(tx: &mut db::Tx<'_>, token_sha256: &str, key_sha256: &str, now: u64) -> Result<Option<Admission>, AppError> {
    let Some(row) = db::enrollments::find(tx, token_sha256).await? else { return Ok(None) };
    if from_seconds(row.expires_s) < now {
        return Ok(None);
    }
    let device: Option<DeviceId> = match (&row.device, &row.key_sha256) {
        (None, _) => None,
        (Some(device), Some(used_by)) if used_by == key_sha256 => Some(device.parse().map_err(AppError::internal)?),
        (Some(_), _) => return Ok(None),
    };
    if let Some(device) = &device
        && db::devices::fleet_of_revoked(tx, device).await?.is_some()
    {
        return Ok(None);
    }
    Ok(Some(Admission { device, fleet: row.fleet.parse().map_err(AppError::internal)? }))
}

/// A new certificate for a device that still has a good one, over the same key.
///
/// # Errors
/// [`Code::Invalid`] for a bad request or another key.
pub async fn renew(app: &App, device: &DeviceId, request: &RenewRequest) -> Result<RenewResponse, AppError> {
    let key = csr::check(&request.csr_pem).map_err(|e| AppError::new(Code::Invalid, format!("csr_pem: {e}")))?;
    let key_sha256 = sha256_hex(key.public_key_der());
    let now = now_s();
    if !db::devices::may_connect(app.db.pool(), device, &key_sha256).await? {
        return Err(AppError::new(Code::Invalid, "csr_pem: renewal is for the key that the device enrolled with"));
    }
    let known = db::devices::get(app.db.pool(), device.as_str()).await?.ok_or_else(|| AppError::not_found("device", device.as_str()))?;
    let certified = certify(app, device, &request.csr_pem, &key).await?;
    let mut tx = app.db.write().await?;
    db::devices::upsert(&mut tx, device, &known.fleet, &certified, now).await?;
    app.audit(&mut tx, now, "device", "device.renew", device.as_str()).await?;
    tx.commit().await?;
    app.publish(Event::Device { id: device.clone() });
    Ok(RenewResponse { certificate_chain_pem: chain_pem(app, &certified)? })
}

/// Has a device's certificate signed.
async fn certify(app: &App, device: &DeviceId, csr_pem: &str, key: &ProvedKey) -> Result<Certified, AppError> {
    let request = Request::CertifyDevice {
        device: device.clone(),
        csr_pem: csr_pem.to_owned(),
        valid_s: CERTIFICATE_S,
        protection: Protection::Software,
    };
    let leaf = certificate::from_der(&signing::certificate(&app.signer, request).await?)?;
    Ok(Certified {
        key_sha256: sha256_hex(key.public_key_der()),
        serial: certificate::serial(&leaf),
        pem: certificate::to_pem(&leaf)?,
        certificate_sha256: certificate::fingerprint(&leaf)?,
        not_after_s: certificate::not_after_s(&leaf),
    })
}

/// A certificate with its issuer, PEM.
fn chain_pem(app: &App, certified: &Certified) -> Result<String, AppError> {
    Ok(format!("{}{}", certified.pem, certificate::to_pem(&app.pki.device_ca)?))
}
