//! Enrollment tokens, and issuing and renewing device certificates.

use crate::accounts::actor::Actor;
use crate::attestation::tpm;
use crate::context::Context;
use crate::enrollment::renewal;
use crate::enrollment::renewal::{Begun, Requester, Right};
use crate::error::Error;
use crate::ports::Addresses;
use crate::{signing, trust};
use fleeti_core::canonical::{is_sha256_hex, sha256_hex};
use fleeti_core::enrollment::certificate::{Anchor, CERTIFICATE_S, KeyPlace, window_of};
use fleeti_core::enrollment::token::Terms;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::api::{CreateEnrollment, Enrollment, Event};
use fleeti_core::wire::enrollment::{
    EnrollmentRecord, ProvedRenewRequest, RenewRequest, RenewResponse, TOKEN_S_MAX,
};
use fleeti_core::wire::problem::Code;
use fleeti_pki::attestation::key::{CHANNEL_BYTES, Purpose};
use fleeti_pki::certificate::{self, Protection};
use fleeti_pki::csr;
use fleeti_pki::signer::fast;
use fleeti_signer_client::wire::{Occasion, Request};
use fleeti_store::devices::Certified;
use fleeti_store::{self as store, Tx, tpms};

/// Creates a one-time token. Only the return value contains it.
///
/// # Errors
/// [`Code::Invalid`] for a validity out of range.
pub async fn create(
    cx: &Context,
    by: &Actor,
    fleet: &FleetId,
    request: &CreateEnrollment,
    addresses: &Addresses,
) -> Result<Enrollment, Error> {
    let mut tx = cx.db.write().await?;
    let wanted = NewToken { fleet, valid_s: request.valid_s, reservation: None };
    let enrollment = issue(cx, &mut tx, &wanted, addresses).await?;
    made_by(&mut tx, &enrollment, by).await?;
    cx.audit(&mut tx, by.act("enrollment.create", fleet.as_str())).await?;
    tx.commit().await?;
    Ok(enrollment)
}

/// Names the account that made a token, so that the token ends with it.
pub(crate) async fn made_by(
    tx: &mut Tx<'_>,
    enrollment: &Enrollment,
    by: &Actor,
) -> Result<(), Error> {
    let digest = sha256_hex(enrollment.record.token.as_bytes());
    Ok(store::accounts::made_enrollment(tx, &digest, by.account()).await?)
}

/// The device that a token is reserved for.
pub(crate) struct Reservation<'a> {
    /// The device.
    pub device: &'a DeviceId,
    /// SHA-256 of its TPM's endorsement key.
    pub ek_sha256: Option<&'a str>,
}

/// A token to issue.
pub(crate) struct NewToken<'a> {
    /// The fleet that its device joins.
    pub fleet: &'a FleetId,
    /// Its validity, in seconds.
    pub valid_s: u32,
    /// The device that it is for; `None` for any.
    pub reservation: Option<Reservation<'a>>,
}

/// Issues a token.
pub(crate) async fn issue(
    cx: &Context,
    tx: &mut Tx<'_>,
    wanted: &NewToken<'_>,
    addresses: &Addresses,
) -> Result<Enrollment, Error> {
    let NewToken { fleet, valid_s, reservation } = wanted;
    if !(60..=TOKEN_S_MAX).contains(valid_s) {
        return Err(Error::new(
            Code::Invalid,
            format!("valid_s is {valid_s}, must be 60 to {TOKEN_S_MAX}"),
        ));
    }
    let ek_sha256 = reservation.as_ref().and_then(|r| r.ek_sha256);
    if let Some(ek) = ek_sha256.filter(|ek| !is_sha256_hex(ek)) {
        return Err(Error::new(
            Code::Invalid,
            format!("ek_sha256 is {ek:?}, must be 64 lower-case hexadecimal digits"),
        ));
    }
    let token = hex::encode(rand::random::<[u8; 32]>());
    let expires_s = cx.now_s() + u64::from(*valid_s);
    let terms = Terms {
        reserved: reservation.as_ref().map(|r| r.device.clone()),
        ek_sha256: ek_sha256.map(str::to_owned),
        ..Terms::until(expires_s)
    };
    store::enrollments::insert(tx, &sha256_hex(token.as_bytes()), fleet, &terms).await?;
    Ok(Enrollment { record: record(cx, addresses, token), expires_s })
}

/// The enrollment record: the addresses and anchors of this server, and a token.
pub(crate) fn record(cx: &Context, addresses: &Addresses, token: String) -> EnrollmentRecord {
    let name = cx.settings.names.first().map_or("localhost", String::as_str);
    EnrollmentRecord {
        https_url: format!("https://{name}:{}", addresses.https.port()),
        mqtt_address: format!("{name}:{}", addresses.mqtt.port()),
        root_sha256: cx.pki.root_sha256.clone(),
        token,
        proxy: cx.settings.device_proxy.clone(),
    }
}

/// Issues a certificate for a device whose certificate has expired, or whose intermediate CA no
/// longer counts, without a token. The TPM that is bound to the device certifies over this
/// connection that it holds the key.
///
/// # Errors
/// [`Code::Forbidden`] for a device that is unknown or revoked, or whose proof does not verify;
/// [`Code::TooMany`] before renewal is due.
pub async fn renew_by_proof(
    cx: &Context,
    request: &ProvedRenewRequest,
    channel: Channel,
) -> Result<RenewResponse, Error> {
    claimed_key_sha256(&request.csr_pem)?;
    let refused = || renewal::no_right(&Right::Tpm(Anchor::Ended));
    let device = &request.device;
    let tpm = tpms::get(cx.db.pool(), device).await?.ok_or_else(refused)?;
    tpm::check_key(&tpm, &request.key, &request.csr_pem, channel, |c| Purpose::renewal(device, c))
        .map_err(|e| {
            tracing::warn!(%device, "renewal by TPM refused: {}", e.for_log());
            refused()
        })?;
    let (csr_pem, protection) = (request.csr_pem.as_str(), tpm::protection(&tpm));
    let right = Right::Tpm(renewal::anchor(cx, device).await?);
    issue_next(cx, &Wanted { device, csr_pem, protection, right }).await
}

/// The channel binding of a connection (RFC 9266); `None` unless it is TLS 1.3.
pub type Channel = Option<[u8; CHANNEL_BYTES]>;

/// Renews a valid device certificate, for a new key or the same one.
///
/// # Errors
/// [`Code::Invalid`] for a bad request; [`Code::Forbidden`] for a key outside the TPM if the last
/// one was in it; [`Code::TooMany`] before renewal is due.
pub async fn renew(
    cx: &Context,
    device: &DeviceId,
    request: &RenewRequest,
    channel: Channel,
) -> Result<RenewResponse, Error> {
    claimed_key_sha256(&request.csr_pem)?;
    let protection = match &request.key {
        Some(sent) => {
            let tpm = tpms::get(cx.db.pool(), device).await?;
            let tpm = tpm.ok_or_else(|| {
                Error::new(Code::Forbidden, "this device has not shown a TPM")
                    .hint("show the TPM with POST /tpm first")
            })?;
            tpm::check_key(&tpm, sent, &request.csr_pem, channel, |c| Purpose::renewal(device, c))?;
            tpm::protection(&tpm)
        }
        None => Protection::Software,
    };
    let csr_pem = request.csr_pem.as_str();
    issue_next(cx, &Wanted { device, csr_pem, protection, right: Right::Certificate }).await
}

/// The next certificate that a device requests.
pub(crate) struct Wanted<'a> {
    /// The device.
    pub device: &'a DeviceId,
    /// Its CSR, PEM.
    pub csr_pem: &'a str,
    /// The protection level of the key.
    pub protection: Protection,
    /// By what right the device requests it.
    pub right: Right,
}

impl Wanted<'_> {
    fn place(&self) -> KeyPlace {
        if self.protection == Protection::Software { KeyPlace::File } else { KeyPlace::Tpm }
    }
}

/// Issues the next certificate of a known device, or returns the current one if none is due.
pub(crate) async fn issue_next(cx: &Context, wanted: &Wanted<'_>) -> Result<RenewResponse, Error> {
    let Wanted { device, csr_pem, protection, .. } = *wanted;
    let key_sha256 = proved_key_sha256(csr_pem)?;
    let requester =
        Requester { device, key_sha256: &key_sha256, place: wanted.place(), right: &wanted.right };
    match renewal::begin(cx, &requester).await? {
        Begun::Again(certified) => return Ok(renewed(cx, &certified)),
        Begun::New => {}
    }
    let next = async {
        let reason = Reason { occasion: Occasion::Renewal, protection };
        let certified = certify(cx, device, csr_pem, reason).await.map_err(bad_request)?;
        renewal::keep(cx, device, &certified).await?;
        Ok::<_, Error>(certified)
    };
    match next.await {
        Ok(certified) => {
            cx.publish(Event::Device { id: device.clone() });
            Ok(renewed(cx, &certified))
        }
        Err(e) => {
            renewal::give_back(cx, device).await;
            Err(e)
        }
    }
}

fn renewed(cx: &Context, certified: &Certified) -> RenewResponse {
    RenewResponse {
        certificate_chain_pem: chain_pem(cx, certified),
        renewal: window_of(certified.not_after_s),
    }
}

/// Maps the signing service's refusal of a CSR with a wrong proof of possession.
pub(crate) fn bad_request(e: Error) -> Error {
    if e.code() == Code::Conflict { Error::new(Code::Invalid, format!("csr_pem: {e}")) } else { e }
}

/// The key in a CSR. The signing service checks its proof of possession.
pub(crate) fn claimed_key_sha256(csr_pem: &str) -> Result<String, Error> {
    let key = csr::claimed_key(csr_pem)
        .map_err(|e| Error::new(Code::Invalid, format!("csr_pem: {e}")))?;
    Ok(sha256_hex(&key))
}

/// The key in a CSR whose proof of possession verifies, for responses without the signing service.
pub(crate) fn proved_key_sha256(csr_pem: &str) -> Result<String, Error> {
    let key = csr::check_with(csr_pem, fast::verify)
        .map_err(|e| Error::new(Code::Invalid, format!("csr_pem: {e}")))?;
    Ok(sha256_hex(key.public_key_der()))
}

/// What the signing service is told of a certificate.
#[derive(Clone, Copy)]
pub(crate) struct Reason {
    /// The first certificate of a device, or a later one.
    pub occasion: Occasion,
    /// The protection level of its key.
    pub protection: Protection,
}

/// Requests a device certificate from the signing service.
pub(crate) async fn certify(
    cx: &Context,
    device: &DeviceId,
    csr_pem: &str,
    reason: Reason,
) -> Result<Certified, Error> {
    let Reason { occasion, protection } = reason;
    let trust = trust::current(cx);
    let issuer = trust.device();
    let request = Request::CertifyDevice {
        device: device.clone(),
        csr_pem: csr_pem.to_owned(),
        valid_s: CERTIFICATE_S,
        protection,
        occasion,
        issuer: Some(issuer.sha256.clone()),
    };
    let der = signing::certificate(&cx.signer, request).await?;
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

/// A certificate and its issuer's certificate, PEM.
pub(crate) fn chain_pem(cx: &Context, certified: &Certified) -> String {
    let trust = trust::current(cx);
    let issuer =
        trust.devices().find(|a| a.sha256 == certified.issuer).unwrap_or_else(|| trust.device());
    [certified.pem.as_str(), issuer.pem.as_str()].concat()
}
