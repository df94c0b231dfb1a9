//! How a device differs from what is desired of it: collects what several areas know, and compares it.

use crate::attestation::{challenge, policy};
use crate::context::Context;
use crate::devices;
use crate::error::Error;
use fleeti_core::drift::{Facts, differences};
use fleeti_core::id::{DeviceId, ReleaseName};
use fleeti_core::wire::api::Device;
use fleeti_core::wire::attestation::Attestation;
use fleeti_core::wire::history::Drift;
use fleeti_store as store;

/// The revisions of the profile of a release: of the release, and the newest.
async fn revisions(
    cx: &Context,
    release: Option<&ReleaseName>,
) -> Result<(Option<u32>, Option<u32>), Error> {
    let Some(release) = release else { return Ok((None, None)) };
    let built = store::builds::revision_of(cx.db.pool(), release).await?;
    let newest = match built {
        Some(_) => store::revisions::newest_number(cx.db.pool(), release.line.as_str()).await?,
        None => None,
    };
    Ok((built, newest))
}

/// How a device differs from what is desired of it.
///
/// # Errors
/// [`Code::NotFound`](fleeti_core::wire::problem::Code::NotFound).
pub async fn of(cx: &Context, id: &DeviceId) -> Result<Drift, Error> {
    let device = devices::get(cx, id.as_str()).await?;
    let attestation = challenge::get(cx, id).await?;
    between(cx, &device, &attestation).await
}

/// How a device differs from what is desired of it, by what is already loaded.
pub(crate) async fn between(
    cx: &Context,
    device: &Device,
    attestation: &Attestation,
) -> Result<Drift, Error> {
    let reported = device.boot.as_ref().map(|boot| &boot.running);
    let (revision, newest_revision) = revisions(cx, reported).await?;
    let result = attestation.result.as_ref().filter(|_| attestation.is_fresh);
    let found = differences(&Facts {
        desired: device.desired.as_ref(),
        reported,
        proved: result.and_then(|result| result.release.as_ref()),
        has_evidence: result.is_some(),
        revision,
        newest_revision,
        level: attestation.level,
        policy: &policy::of(cx, &device.fleet),
        certificate_ends_s: device.certificate_not_after_s,
        now_s: cx.now_s(),
    });
    Ok(Drift {
        severity: found.first().map(|difference| difference.severity),
        differences: found,
        since_s: store::devices::drift_since_s(cx.db.pool(), &device.id).await?,
    })
}
