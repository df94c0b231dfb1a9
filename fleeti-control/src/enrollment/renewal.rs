//! When, and how often, a device can renew its certificate: the machine is
//! [`fleeti_core::enrollment::certificate`]. A client that repeats the request gets the same
//! certificate, or the time of the next renewal, and the server stores nothing.

use crate::changes::record::record;
use crate::context::Context;
use crate::error::Error;
use crate::trust;
use fleeti_core::enrollment::KeyOwner;
use fleeti_core::enrollment::certificate::{
    self as machine, Anchor, Authority, Commanded, Effect, Event, KeyPlace, Rejected, Request,
    Stored, Successors,
};
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api;
use fleeti_core::wire::command::CommandKind;
use fleeti_core::wire::problem::Code;
use fleeti_pki::certificate;
use fleeti_store::certificates::{self, StoredCertificates};
use fleeti_store::devices::{Certified, WithCertificate};
use fleeti_store::{Connection, commands, device_keys, readmissions};
use x509_cert::Certificate;

/// By what right a device requests its next certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Right {
    /// Its valid certificate.
    Certificate,
    /// The TPM that is bound to it; see [`anchor`].
    Tpm(Anchor),
    /// The key of its expired certificate, by its SHA-256, while its fleet is readmitted.
    Readmission(String),
}

/// A device that requests its next certificate.
pub(crate) struct Requester<'a> {
    /// The device.
    pub device: &'a DeviceId,
    /// SHA-256 of the key, whose possession it has proved.
    pub key_sha256: &'a str,
    /// Where the key is.
    pub place: KeyPlace,
    /// By what right it requests.
    pub right: &'a Right,
}

/// What [`begin`] found.
pub(crate) enum Begun {
    /// The existing certificate.
    Again(Certified),
    /// A new one may be signed. Call [`give_back`] if that fails.
    New,
}

/// What the state of a device permits.
enum Decided {
    Again(Certified),
    New(Successors),
}

/// Checks whether a device may get a certificate for a key, and counts it before signing, because
/// requests can be concurrent.
///
/// # Errors
/// [`Code::TooMany`] before renewal is due; [`Code::Forbidden`] for a revoked device, a key of
/// another device, or one outside the TPM after one in it; [`Code::NotFound`].
pub(crate) async fn begin(cx: &Context, requester: &Requester<'_>) -> Result<Begun, Error> {
    // Without the writer: a client that repeats its request, or has no right to one, must not block
    // other writers.
    if let Decided::Again(certified) = decide(cx, &mut cx.db.reader().await?, requester).await? {
        return Ok(Begun::Again(certified));
    }
    let mut tx = cx.db.write().await?;
    match decide(cx, &mut tx, requester).await? {
        Decided::Again(certified) => Ok(Begun::Again(certified)),
        Decided::New(successors) => {
            certificates::set_successors(&mut tx, requester.device, successors).await?;
            tx.commit().await?;
            Ok(Begun::New)
        }
    }
}

async fn decide(
    cx: &Context,
    connection: &mut Connection,
    requester: &Requester<'_>,
) -> Result<Decided, Error> {
    let (now_s, key_sha256) = (cx.now_s(), requester.key_sha256);
    let found = certificates::load(connection, requester.device).await?;
    let StoredCertificates { certificates, .. } = found.ok_or_else(|| match requester.right {
        Right::Certificate => Error::not_found("device", requester.device.as_str()),
        Right::Tpm(_) | Right::Readmission(_) => no_right(requester.right),
    })?;
    let certified = certificates::of_key(connection, requester.device, key_sha256, now_s).await?;
    let authority = match requester.right {
        Right::Certificate => Authority::Certificate,
        Right::Tpm(anchor) => Authority::Tpm(*anchor),
        Right::Readmission(key_sha256) => Authority::Readmission {
            key_sha256: key_sha256.clone(),
            until_s: readmissions::until_s(connection, requester.device).await?,
        },
    };
    let request = Request {
        key_sha256: key_sha256.to_owned(),
        key_owner: owner(connection, requester.device, key_sha256).await?,
        place: requester.place,
        authority,
        stored: if certified.is_some() { Stored::Yes } else { Stored::No },
        commanded: commanded(connection, requester.device, now_s).await?,
    };
    let (after, effects) = machine::step(&certificates, Event::Request(request), now_s)
        .map_err(|rejected| refused(rejected, requester, now_s))?;
    match certified {
        Some(certified) if effects.contains(&Effect::Repeat) => Ok(Decided::Again(certified)),
        Some(_) | None => Ok(Decided::New(after.successors)),
    }
}

/// Whether the device is to replace its key now, by a command that it has not ended.
async fn commanded(
    connection: &mut Connection,
    device: &DeviceId,
    now_s: u64,
) -> Result<Commanded, Error> {
    let kind = CommandKind::RotateKey;
    let is_commanded = commands::is_commanded(connection, device, &kind, now_s).await?;
    Ok(if is_commanded { Commanded::Yes } else { Commanded::No })
}

/// Whom a key belongs to, as seen by a device.
async fn owner(
    connection: &mut Connection,
    device: &DeviceId,
    key_sha256: &str,
) -> Result<KeyOwner, Error> {
    let owners = device_keys::owners(connection, &[key_sha256]).await?;
    let is_other = owners.get(key_sha256).is_some_and(|owner| owner != device.as_str());
    Ok(if is_other { KeyOwner::OtherDevice } else { KeyOwner::NoOther })
}

/// Whether an intermediate CA that counts has signed the newest certificate of a device.
pub(crate) async fn anchor(cx: &Context, device: &DeviceId) -> Result<Anchor, Error> {
    let newest = certificates::newest(cx.db.pool(), device)
        .await?
        .and_then(|pem| certificate::from_pem(&pem).ok());
    let trust = trust::current(cx);
    let counts =
        |c: Certificate| trust.devices().any(|a| certificate::is_signed_by(&c, &a.certificate));
    Ok(if newest.is_some_and(counts) { Anchor::Counts } else { Anchor::Ended })
}

/// Undoes the counting of [`begin`] after a failure.
pub(crate) async fn give_back(cx: &Context, device: &DeviceId) {
    let given = async {
        let mut tx = cx.db.write().await?;
        let Some(found) = certificates::load(&mut tx, device).await? else { return Ok(()) };
        if let Ok((after, _)) = machine::step(&found.certificates, Event::SigningFailed, cx.now_s())
        {
            certificates::set_successors(&mut tx, device, after.successors).await?;
        }
        Ok::<_, Error>(tx.commit().await?)
    };
    if let Err(e) = given.await {
        tracing::warn!("{device}: a failed renewal still counts: {}", e.for_log());
    }
}

/// Stores a new certificate. Revokes the previous one if that was never used.
///
/// # Errors
/// [`Code::Forbidden`] if the device was revoked meanwhile, or another device got the key.
pub(crate) async fn keep(
    cx: &Context,
    device: &DeviceId,
    certified: &Certified,
) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    let revoked = || Error::new(Code::Forbidden, Rejected::Revoked.to_string());
    let found = certificates::load(&mut tx, device).await?.ok_or_else(revoked)?;
    let event = Event::Issued {
        key_sha256: certified.key_sha256.clone(),
        key_owner: owner(&mut tx, device, &certified.key_sha256).await?,
        not_after_s: certified.not_after_s,
    };
    let (_, effects) = machine::step(&found.certificates, event, cx.now_s())
        .map_err(|e| if e == Rejected::KeyOfOther { foreign_key() } else { revoked() })?;
    for effect in effects {
        match effect {
            Effect::Supersede(unused) => {
                certificates::supersede(&mut tx, device, &unused).await?;
            }
            Effect::Store => {
                let row = WithCertificate { device, fleet: &found.fleet, certificate: certified };
                fleeti_store::devices::upsert(&mut tx, &[row], cx.now_s()).await?;
            }
            Effect::Repeat | Effect::Certify | Effect::ReplaceKey(_) => {}
        }
    }
    record(&mut tx, cx.now_s(), &[api::Event::Device { id: device.clone() }]).await?;
    Ok(tx.commit().await?)
}

/// A device connects with a key that was issued to it. On the first use of the next key, returns
/// the key that it replaces, by its SHA-256.
///
/// # Errors
/// [`Code::Forbidden`] for a revoked device, or any other key.
pub(crate) async fn use_key(
    cx: &Context,
    device: &DeviceId,
    key_sha256: &str,
) -> Result<Option<String>, Error> {
    let refused = |e: Rejected| Error::new(Code::Forbidden, e.to_string());
    let mut tx = cx.db.write().await?;
    let found = certificates::load(&mut tx, device).await?;
    let found = found.ok_or_else(|| refused(Rejected::KeyMismatch))?;
    let event = Event::Use(key_sha256.to_owned());
    let (_, effects) = machine::step(&found.certificates, event, cx.now_s()).map_err(refused)?;
    let replaced = effects.into_iter().find_map(|effect| match effect {
        Effect::ReplaceKey(replaced) => Some(replaced),
        Effect::Repeat | Effect::Certify | Effect::Store | Effect::Supersede(_) => None,
    });
    if replaced.is_some() {
        fleeti_store::devices::promote_key(&mut tx, device, key_sha256).await?;
        tx.commit().await?;
    }
    Ok(replaced)
}

fn refused(rejected: Rejected, requester: &Requester<'_>, now_s: u64) -> Error {
    match rejected {
        Rejected::Revoked | Rejected::NotReadmitted => no_right(requester.right),
        Rejected::KeyOfOther => foreign_key(),
        Rejected::Early { at_s } => early(requester.device, at_s, now_s),
        Rejected::KeyLeavesTpm => Error::new(Code::Forbidden, rejected.to_string()).hint(
            "send the TPM's certification of the key, or revoke the device and provision it again",
        ),
        other => Error::new(Code::Forbidden, other.to_string()),
    }
}

/// The error for a device that may not renew by this right. Without a certificate it is the same
/// for every reason, so that an attacker learns no ids.
pub(crate) fn no_right(right: &Right) -> Error {
    let (text, hint) = match right {
        Right::Certificate => {
            return Error::new(Code::Forbidden, Rejected::Revoked.to_string());
        }
        Right::Tpm(_) => ("this device cannot renew here", "provision the device again"),
        Right::Readmission(_) => (
            "this device is not readmitted",
            "run `fleeti device readmit` to let devices of its fleet renew with expired certificates",
        ),
    };
    Error::new(Code::Forbidden, text).hint(hint)
}

/// The error for a key that belongs to another device.
pub(crate) fn foreign_key() -> Error {
    Error::new(Code::Forbidden, Rejected::KeyOfOther.to_string())
        .hint("make a new key: two devices never share one")
}

fn early(device: &DeviceId, at_s: u64, now_s: u64) -> Error {
    let at = i64::try_from(at_s).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    let at = at.map_or_else(|| format!("{at_s} (Unix seconds)"), |at| at.to_string());
    Error::new(Code::TooMany, format!("the certificate of {device} cannot be renewed before {at}"))
        .hint("keep the current certificate, or repeat the request with the same key")
        .retry_after(at_s.saturating_sub(now_s))
}
