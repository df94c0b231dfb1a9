//! What several areas know of one device, of one fleet or of alerts, loaded together.

use crate::accounts::actor::{Actor, Scope};
use crate::alerts::AlertsOverview;
use crate::attestation::{challenge, policy};
use crate::board::Numbers;
use crate::context::Context;
use crate::devices::Filter;
use crate::devices::search::{self, Wanted};
use crate::email::EmailOverview;
use crate::error::Error;
use crate::profiles::Fixes;
use crate::timeline::{self, Timeline};
use crate::{
    alerts, board, channels, commands, devices, drift, email, labels, profiles, rollouts,
    second_person, secrets, views,
};
use fleeti_core::attestation::policy::Policy;
use fleeti_core::filter::FilterError;
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::alerts::{Alert, AlertQuery};
use fleeti_core::wire::api::{CommandStatus, Device, RolloutSummary};
use fleeti_core::wire::approval::{Approval, ApprovalPolicy};
use fleeti_core::wire::attestation::Attestation;
use fleeti_core::wire::fixes::{FIXES_MAX, FleetFixes, MissingFix};
use fleeti_core::wire::history::{Drift, Metrics};
use fleeti_core::wire::labels::{LabelKeyInfo, View};
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::updates::{Channel, Why};
use fleeti_core::wire::vault::{FleetSecret, RecoveryKeyStatus};
use fleeti_store as store;
use fleeti_store::history::Span;

/// The page of a device shows this part of its history, seconds.
const WEEK_S: u64 = 7 * 86_400;
/// The page of a fleet shows this many of its devices.
const DEVICES: u32 = 25;

/// The page of alerts.
pub struct AlertsDetails {
    /// Alerts, rules and silences.
    pub alerts: AlertsOverview,
    /// Receivers of e-mail; `None` for an actor who may not see them.
    pub email: Option<EmailOverview>,
}

/// A page of alerts, with rules, silences and receivers of e-mail.
///
/// # Errors
/// As [`alerts::page`].
pub async fn alerts(cx: &Context, by: &Actor, query: &AlertQuery) -> Result<AlertsDetails, Error> {
    Ok(AlertsDetails {
        alerts: alerts::overview(cx, by, query).await?,
        email: email::overview(cx, by).await?,
    })
}

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
    /// The label keys that are declared.
    pub label_keys: Vec<LabelKeyInfo>,
    /// Alerts about it that are not resolved.
    pub alerts: Vec<Alert>,
    /// How it differs from what is desired of it.
    pub drift: Drift,
    /// Its metrics of a week.
    pub metrics: Vec<Metrics>,
    /// The newest commands, newest first.
    pub commands: Vec<CommandStatus>,
    /// What happened to it last.
    pub timeline: Timeline,
    /// The release that it can be put back to.
    pub way_back: Option<ReleaseName>,
    /// Names of the support keys of the profile that it runs; none if that is not known.
    pub support_keys: Vec<String>,
}

/// A page of devices, with the saved views.
pub struct DeviceList {
    /// The devices; none if the filter is refused.
    pub devices: Vec<Device>,
    /// Number of devices that the filter matches and the actor may change; `None` without a filter.
    pub matched: Option<u64>,
    /// Why the filter is refused.
    pub refused: Option<FilterError>,
    /// The saved views.
    pub views: Vec<View>,
    /// The label keys that are declared.
    pub label_keys: Vec<LabelKeyInfo>,
}

/// Loads a page of devices. A filter that is refused is no error: the page shows what is wrong.
///
/// # Errors
/// As [`search::list`], but for the filter.
pub async fn devices(cx: &Context, by: &Actor, wanted: Wanted<'_>) -> Result<DeviceList, Error> {
    let (views, label_keys) = (views::list(cx).await?, labels::keys(cx).await?);
    let mut list = DeviceList { devices: vec![], matched: None, refused: None, views, label_keys };
    if wanted.filter.trim().is_empty() {
        list.devices = search::list(cx, by, wanted).await?;
        return Ok(list);
    }
    match search::parsed(cx, wanted.filter).await? {
        Err(refused) => list.refused = Some(refused),
        Ok(filter) => {
            list.devices = search::find(cx, by, &filter, wanted).await?;
            list.matched = Some(search::count(cx, by, Permission::Operate, &filter).await?);
        }
    }
    Ok(list)
}

/// A fleet, with its channel, its appraisal policy and the names of its secrets.
pub struct FleetDetails {
    /// The fleet.
    pub fleet: FleetId,
    /// Numbers of its devices.
    pub numbers: Numbers,
    /// Its first devices.
    pub devices: Vec<Device>,
    /// Its rollout that has not ended.
    pub rollout: Option<RolloutSummary>,
    /// What its devices should run.
    pub channel: Channel,
    /// Its appraisal policy.
    pub policy: Policy,
    /// Its secrets, without their values.
    pub secrets: Vec<FleetSecret>,
    /// Security fixes that the release lacks which its devices should run.
    pub fixes: Option<Fixes>,
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
    let label_keys = labels::keys(cx).await?;
    let alerts = alerts::of_device(cx, id).await?;
    let drift = drift::between(cx, &device, &attestation).await?;
    let now_s = cx.now_s();
    let week = Span { from_s: now_s.saturating_sub(WEEK_S), until_s: now_s };
    let metrics = store::history::metrics(&mut cx.db.reader().await?, id, week).await?;
    let commands = commands::of_device(cx, id).await?;
    let timeline = timeline::get(cx, id, None).await?;
    let way_back = channels::way_back(cx, &device).await?;
    let support_keys = match &device.boot {
        Some(boot) => profiles::support_keys(cx, &boot.running).await?,
        None => vec![],
    };
    Ok(DeviceDetails {
        device,
        why,
        attestation,
        recovery_key,
        has_lost_its_seal,
        label_keys,
        alerts,
        drift,
        metrics,
        commands,
        timeline,
        way_back,
        support_keys,
    })
}

/// Loads a fleet with its details.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn fleet(cx: &Context, by: &Actor, name: &FleetId) -> Result<FleetDetails, Error> {
    let devices = devices::page(cx, by, Filter::Fleet(name), "", DEVICES).await?;
    if devices.is_empty() {
        return Err(Error::not_found("fleet", name.as_str()));
    }
    let channel = channels::channel(cx, name).await?;
    let fixes = match release_of(&channel) {
        Some(release) => profiles::fixes_of_release(cx, release).await?,
        None => None,
    };
    Ok(FleetDetails {
        fleet: name.clone(),
        numbers: board::of_fleet(cx, name).await?,
        devices,
        rollout: rollouts::active_in(cx, name).await?,
        channel,
        policy: policy::of(cx, name),
        secrets: secrets::secrets(cx, name).await?,
        fixes,
    })
}

/// The release that devices of a fleet should run.
fn release_of(channel: &Channel) -> Option<&ReleaseName> {
    channel.pin.as_ref().map(|pin| &pin.release).or(channel.release.as_ref())
}

/// The security fixes that the release of a fleet lacks.
pub async fn fixes(cx: &Context, fleet: &FleetId) -> Result<FleetFixes, Error> {
    let channel = channels::channel(cx, fleet).await?;
    let release = release_of(&channel).cloned();
    let found = match &release {
        Some(release) => profiles::fixes_of_release(cx, release).await?,
        None => None,
    };
    let (is_known, waiting) = (found.is_some(), found.map(|fixes| fixes.waiting));
    let waiting = waiting.unwrap_or_default();
    let count = waiting.len() as u64;
    let fixes = waiting.into_iter().take(FIXES_MAX).map(|fix| MissingFix {
        package: fix.package,
        installed: fix.locked,
        fixed: fix.fixed,
        since_s: fix.since_s,
    });
    Ok(FleetFixes { release, is_known, count, fixes: fixes.collect() })
}

/// Acts that need a second person, and the policy for those who may change it.
pub async fn approvals(
    cx: &Context,
    by: &Actor,
) -> Result<(Vec<Approval>, Option<ApprovalPolicy>), Error> {
    let policy = if by.may(Permission::Accounts, Scope::All) {
        // One that does not count is set again: as if there were none.
        Some(second_person::policy(cx, by).await.unwrap_or_default())
    } else {
        None
    };
    Ok((second_person::list(cx, by).await?, policy))
}
