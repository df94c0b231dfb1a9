//! What several areas know of one device or of one fleet, loaded together.

use crate::attestation::{challenge, policy};
use crate::context::Context;
use crate::error::Error;
use crate::{channels, devices, secrets};
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::api::{Device, Fleet};
use fleeti_core::wire::attestation::Attestation;
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::updates::{Channel, Why};
use fleeti_core::wire::vault::{FleetSecret, RecoveryKeyStatus};

/// A device, with its attestation and its recovery key.
pub struct DeviceDetails {
    /// The device.
    pub device: Device,
    /// Why it is, or is not, offered a release.
    pub why: Why,
    /// Its attestation.
    pub attestation: Attestation,
    /// Status of its recovery key; `None` if the server has none.
    pub recovery_key: Option<RecoveryKeyStatus>,
    /// Whether its data partition was sealed to its TPM, and it now reports that it is not.
    pub has_lost_its_seal: bool,
}

/// A fleet, with its channel, its appraisal policy and the names of its secrets.
pub struct FleetDetails {
    /// The fleet.
    pub fleet: Fleet,
    /// What its devices should run.
    pub channel: Channel,
    /// Its appraisal policy.
    pub policy: Policy,
    /// Its secrets, without their values.
    pub secrets: Vec<FleetSecret>,
}

/// Loads a device with its details.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn device(cx: &Context, id: &DeviceId) -> Result<DeviceDetails, Error> {
    let device = devices::get(cx, id.as_str()).await?;
    let why = channels::why(cx, id).await?;
    let attestation = challenge::get(cx, id).await?;
    let recovery_key = match secrets::recovery_key_status(cx, id).await {
        Ok(status) => Some(status),
        Err(e) if e.code() == Code::NotFound => None,
        Err(e) => return Err(e),
    };
    let has_lost_its_seal = secrets::has_lost_its_seal(&device, recovery_key.is_some());
    Ok(DeviceDetails { device, why, attestation, recovery_key, has_lost_its_seal })
}

/// Loads a fleet with its details.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn fleet(cx: &Context, name: &FleetId) -> Result<FleetDetails, Error> {
    let found = devices::fleets(cx).await?.into_iter().find(|f| f.name == *name);
    let fleet = found.ok_or_else(|| Error::not_found("fleet", name.as_str()))?;
    let secrets = secrets::secrets(cx, name).await?;
    let channel = channels::channel(cx, name).await?;
    Ok(FleetDetails { fleet, channel, policy: policy::of(cx, name), secrets })
}
