//! Readmission: for a limited time, an operator lets devices of a fleet renew with an expired
//! certificate whose key is a file.

use crate::accounts::actor::Actor;
use crate::context::Context;
use crate::enrollment::renewal::{self, Right};
use crate::enrollment::token::{Channel, Wanted, issue_next};
use crate::error::Error;
use fleeti_core::id::FleetId;
use fleeti_core::wire::device::TEXT_MAX;
use fleeti_core::wire::enrollment::RenewResponse;
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::readmission::ReadmitRequest;
use fleeti_core::wire::readmission::{CreateReadmission, Readmission};
use fleeti_pki::audit::Act;
use fleeti_pki::certificate::Protection;
use fleeti_pki::readmission;
use fleeti_store as store;
use fleeti_store::readmissions::Opened;

/// Allowed duration of a readmission, in seconds.
const VALID_S: std::ops::RangeInclusive<u32> = 60..=30 * 86_400;

/// Opens readmission for a fleet.
///
/// # Errors
/// [`Code::Invalid`] without a reason, or for a time out of range.
pub async fn open(
    cx: &Context,
    by: &Actor,
    fleet: &FleetId,
    request: &CreateReadmission,
) -> Result<Readmission, Error> {
    let reason = request.reason.trim();
    if reason.is_empty() || reason.len() > TEXT_MAX / 4 {
        return Err(Error::new(
            Code::Invalid,
            format!("reason has {} bytes, must have 1 to {}", reason.len(), TEXT_MAX / 4),
        ));
    }
    if !VALID_S.contains(&request.valid_s) {
        let text = format!(
            "valid_s is {}, must be {} to {}",
            request.valid_s,
            VALID_S.start(),
            VALID_S.end()
        );
        return Err(Error::new(Code::Invalid, text));
    }
    let (now, mut tx) = (cx.now_s(), cx.db.write().await?);
    let until_s = now + u64::from(request.valid_s);
    let opened = Opened { fleet, until_s, reason };
    let devices = store::readmissions::open(&mut tx, &opened, now).await?;
    cx.audit(&mut tx, by.act("fleet.readmit", format!("{fleet} until {until_s}: {reason}")))
        .await?;
    tx.commit().await?;
    Ok(Readmission { fleet: fleet.clone(), until_s, devices })
}

/// The action in the audit log.
const READMITTED: &str = "device.readmitted";

/// Issues the next certificate of a device during readmission. The key of the expired certificate
/// has signed over this connection.
///
/// # Errors
/// [`Code::Forbidden`] for any other device.
pub async fn renew(
    cx: &Context,
    request: &ReadmitRequest,
    channel: Channel,
) -> Result<RenewResponse, Error> {
    let refused = || renewal::no_right(&Right::Readmission(String::new()));
    let channel = channel.ok_or_else(refused)?;
    let key_sha256 = readmission::check(request, &channel).map_err(|e| {
        tracing::debug!("readmission: {e}");
        refused()
    })?;
    let wanted = Wanted {
        device: &request.device,
        csr_pem: &request.csr_pem,
        protection: Protection::Software,
        right: Right::Readmission(key_sha256.clone()),
    };
    let answer = issue_next(cx, &wanted).await?;
    // A device that repeats the request gets the same certificate and one audit entry. The signing
    // service enters each certificate that it issues.
    if cx.alarms.is_new(READMITTED, request.device.as_str()) {
        let mut tx = cx.db.write().await?;
        cx.audit(&mut tx, Act::new(request.device.as_str(), READMITTED, &key_sha256)).await?;
        tx.commit().await?;
    }
    Ok(answer)
}
