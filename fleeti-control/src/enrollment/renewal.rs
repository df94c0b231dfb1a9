//! When, and how often, a device can renew its certificate: once in the renewal window of the
//! certificate in use, and a few more times, because responses get lost and devices lose new keys.
//! A client that repeats the request gets the same certificate, or the time of the next renewal,
//! and the server stores nothing.

use crate::context::Context;
use crate::enrollment::window::window_of;
use crate::error::Error;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::problem::Code;
use fleeti_pki::certificate;
use fleeti_store::certificates::{self, CertificateStatus};
use fleeti_store::device_keys;
use fleeti_store::devices::Certified;
use x509_cert::Certificate;

/// Certificates for one device within [`AGAIN_S`]: the renewal, and two more in case responses and
/// keys are lost.
pub const SUCCESSORS_MAX: u32 = 3;
/// The period of [`SUCCESSORS_MAX`], in seconds.
pub const AGAIN_S: u64 = 86_400;

/// What a device gets when it requests a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Its existing certificate for this key.
    Again,
    /// A new certificate.
    New,
    /// Nothing before this time, Unix seconds.
    From(u64),
}

/// What the device gets for this key now.
#[must_use]
pub fn due(status: &CertificateStatus, key_sha256: &str, now_s: u64) -> Due {
    let newest = status.next_key_sha256.as_deref().unwrap_or(&status.key_sha256);
    let start_s = window_of(status.not_after_s).start_s;
    if newest == key_sha256 && now_s < start_s {
        return Due::Again;
    }
    // The newest certificate is in use, and renewal is not due.
    if status.next_key_sha256.is_none() && now_s < start_s {
        return Due::From(start_s);
    }
    let again_s = status.successor_s.saturating_add(AGAIN_S);
    if status.successors < SUCCESSORS_MAX || now_s >= again_s {
        Due::New
    } else {
        Due::From(again_s)
    }
}

/// When the current certificate counts as expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// At its own expiry.
    OfDate,
    /// Already: its intermediate CA no longer counts, and the device renews by readmission or by
    /// its TPM.
    ByTrust,
}

/// When the newest certificate of a device ends: already, if no intermediate CA that counts has
/// signed it.
pub async fn end_of(cx: &Context, device: &DeviceId) -> Result<End, Error> {
    let newest = certificates::newest(cx.db.pool(), device)
        .await?
        .and_then(|pem| certificate::from_pem(&pem).ok());
    let trust = cx.trust.current.load();
    let counts =
        |c: Certificate| trust.devices().any(|a| certificate::is_signed_by(&c, &a.certificate));
    Ok(if newest.is_some_and(counts) { End::OfDate } else { End::ByTrust })
}

/// What [`begin`] found.
pub enum Begun {
    /// The existing certificate.
    Again(Certified),
    /// A new one may be signed. Call [`give_back`] if that fails.
    New(CertificateStatus),
}

/// Checks whether a device may get a certificate for a key, and counts it before signing, because
/// requests can be concurrent.
///
/// # Errors
/// [`Code::TooMany`] before renewal is due; [`Code::Forbidden`] for a revoked device, or a key of
/// another device; [`Code::NotFound`].
pub async fn begin(
    cx: &Context,
    device: &DeviceId,
    key_sha256: &str,
    end: End,
) -> Result<Begun, Error> {
    let now_s = cx.now_s();
    let mut tx = cx.db.write().await?;
    let found = certificates::status(&mut tx, device).await?;
    let status = found.ok_or_else(|| Error::not_found("device", device.as_str()))?;
    if status.is_revoked {
        return Err(Error::new(Code::Forbidden, "this device is revoked"));
    }
    if device_keys::owners(&mut tx, &[key_sha256])
        .await?
        .get(key_sha256)
        .is_some_and(|owner| owner != device.as_str())
    {
        return Err(foreign_key());
    }
    let by_end = match end {
        End::OfDate => status.clone(),
        End::ByTrust => CertificateStatus { not_after_s: 0, ..status.clone() },
    };
    match due(&by_end, key_sha256, now_s) {
        Due::From(at_s) => return Err(early(device, at_s, now_s)),
        Due::Again => {
            if let Some(certified) =
                certificates::of_key(&mut tx, device, key_sha256, now_s).await?
            {
                return Ok(Begun::Again(certified));
            }
        }
        Due::New => {}
    }
    let is_first = now_s >= status.successor_s.saturating_add(AGAIN_S);
    let count = if is_first { 1 } else { status.successors.saturating_add(1) };
    certificates::set_successors(&mut tx, device, count, now_s).await?;
    tx.commit().await?;
    Ok(Begun::New(status))
}

/// Undoes the counting of [`begin`] after a failure.
pub async fn give_back(cx: &Context, device: &DeviceId, status: &CertificateStatus) {
    let given = async {
        let mut tx = cx.db.write().await?;
        certificates::set_successors(&mut tx, device, status.successors, status.successor_s)
            .await?;
        Ok::<_, Error>(tx.commit().await?)
    };
    if let Err(e) = given.await {
        tracing::warn!("{device}: a failed renewal still counts: {e}");
    }
}

/// Stores a new certificate. Revokes the previous one if that was never used.
///
/// # Errors
/// [`Code::Forbidden`] if the device was revoked meanwhile, or another device got the key.
pub async fn keep(cx: &Context, device: &DeviceId, certified: &Certified) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    let status = certificates::status(&mut tx, device).await?.filter(|s| !s.is_revoked);
    let status = status.ok_or_else(|| Error::new(Code::Forbidden, "this device is revoked"))?;
    let key = certified.key_sha256.as_str();
    if device_keys::owners(&mut tx, &[key])
        .await?
        .get(key)
        .is_some_and(|owner| owner != device.as_str())
    {
        return Err(foreign_key());
    }
    if let Some(unused) = status.next_key_sha256.as_deref().filter(|unused| *unused != key) {
        certificates::supersede(&mut tx, device, unused).await?;
    }
    fleeti_store::devices::upsert(&mut tx, &[(device, &status.fleet, certified)], cx.now_s())
        .await?;
    Ok(tx.commit().await?)
}

/// The error for a key that belongs to another device.
pub(crate) fn foreign_key() -> Error {
    Error::new(Code::Forbidden, "this key belongs, or belonged, to another device")
        .hint("make a new key: two devices never share one")
}

fn early(device: &DeviceId, at_s: u64, now_s: u64) -> Error {
    let at = i64::try_from(at_s).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    let at = at.map_or_else(|| format!("{at_s} (Unix seconds)"), |at| at.to_string());
    Error::new(Code::TooMany, format!("the certificate of {device} cannot be renewed before {at}"))
        .hint("keep the current certificate, or repeat the request with the same key")
        .retry_after(at_s.saturating_sub(now_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_800_000_000;
    const DAY_S: u64 = 86_400;

    fn status(age_days: u64, next: Option<&str>, successors: u32) -> CertificateStatus {
        CertificateStatus {
            fleet: "demo".parse().unwrap(),
            is_revoked: false,
            key_sha256: "first".into(),
            next_key_sha256: next.map(str::to_owned),
            not_after_s: NOW_S + (30 - age_days) * DAY_S,
            successors,
            successor_s: NOW_S,
        }
    }

    #[test]
    fn a_fresh_certificate_is_given_again_for_its_key_and_another_key_waits() {
        let fresh = status(0, None, 0);
        assert_eq!(due(&fresh, "first", NOW_S), Due::Again);
        assert_eq!(due(&fresh, "other", NOW_S), Due::From(NOW_S + 10 * DAY_S));
        assert_eq!(due(&fresh, "other", NOW_S + 10 * DAY_S), Due::New);
        assert_eq!(due(&fresh, "first", NOW_S + 10 * DAY_S), Due::New);
        assert_eq!(due(&fresh, "other", NOW_S + 400 * DAY_S), Due::New, "out of the drawer");
    }

    #[test]
    fn a_few_answers_may_be_lost_in_a_day() {
        let lost = |n| status(0, Some("next"), n);
        assert_eq!(due(&lost(1), "next", NOW_S), Due::Again);
        assert_eq!(
            [due(&lost(1), "other", NOW_S), due(&lost(2), "first", NOW_S)],
            [Due::New, Due::New]
        );
        assert_eq!(due(&lost(3), "other", NOW_S), Due::From(NOW_S + AGAIN_S));
        assert_eq!(due(&lost(3), "other", NOW_S + AGAIN_S), Due::New);
        assert_eq!(due(&lost(u32::MAX), "other", NOW_S + AGAIN_S), Due::New);
    }
}
