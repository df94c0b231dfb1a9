//! Which acts need the approval of a second person. Operations ask here before they act; requests
//! and approvals are in [`crate::second_person`].

use crate::accounts::actor::{Actor, Scope, Via};
use crate::accounts::people;
use crate::context::Context;
use crate::error::Error;
use crate::precondition::Expected;
use fleeti_core::id::FleetId;
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::api::CreateRollout;
use fleeti_core::wire::approval::{ApprovalPolicy, FLEETS_MAX, REVOKED_WITHIN_S};
use fleeti_core::wire::labels::REVOKED_MAX;
use fleeti_core::wire::problem::Code;
use fleeti_core::{canonical, strict};
use fleeti_store::{self as store, Connection, Tx};

/// What the policy is sealed as.
const SEALED_AS: &str = "approval policy";

/// What the database says of the policy.
enum Kept {
    Policy(ApprovalPolicy),
    /// Another program changed it: every act that a policy can name needs a second person.
    Broken,
}

async fn kept(cx: &Context, connection: &mut Connection) -> Result<Kept, Error> {
    let Some((text, seal)) = store::pending_acts::policy(connection).await? else {
        return Ok(Kept::Policy(ApprovalPolicy::default()));
    };
    let policy = strict::from_slice::<ApprovalPolicy>(text.as_bytes()).ok();
    let is_sealed = cx.accounts.seal(SEALED_AS, &text)? == seal;
    match policy.filter(|_| is_sealed) {
        Some(policy) => Ok(Kept::Policy(policy)),
        None => {
            if cx.alarms.is_new("approval.policy", "seal") {
                tracing::warn!(
                    "the approval policy does not count: another program changed it in the database; set it again"
                );
            }
            Ok(Kept::Broken)
        }
    }
}

/// What follows from an approved act, and what the server itself does, needs no second person.
fn is_exempt(by: &Actor) -> bool {
    by.has_second() || *by.via() == Via::Process
}

fn refused(what: &str) -> Error {
    let text = format!("{what} needs the approval of a second person");
    Error::new(Code::SecondPerson, text)
        .hint("request it: `--ask REASON`, `fleeti approval request`, or POST /api/v1/approvals")
}

/// The policy.
///
/// # Errors
/// [`Code::Conflict`] if another program changed it in the database.
pub async fn policy(cx: &Context) -> Result<ApprovalPolicy, Error> {
    match kept(cx, &mut cx.db.reader().await?).await? {
        Kept::Policy(policy) => Ok(policy),
        Kept::Broken => {
            let text = "another program changed the approval policy in the database: every act that it can name needs a second person";
            Err(Error::new(Code::Conflict, text).hint("set the policy again"))
        }
    }
}

/// Checks a rollout to a fleet, or what is as much: a pin, or a move of a device away.
pub(crate) async fn rollout(cx: &Context, by: &Actor, fleet: &FleetId) -> Result<(), Error> {
    if is_exempt(by) {
        return Ok(());
    }
    match kept(cx, &mut cx.db.reader().await?).await? {
        Kept::Policy(policy) if !policy.rollout_fleets.contains(fleet) => Ok(()),
        Kept::Policy(_) | Kept::Broken => Err(refused(&format!("a change of what {fleet} runs"))),
    }
}

/// Checks the start of a rollout: to a fleet that is guarded, or an urgent one.
pub(crate) async fn start(cx: &Context, by: &Actor, request: &CreateRollout) -> Result<(), Error> {
    begin(cx, by, (&request.fleet, request.urgent.is_some())).await
}

/// Checks a rollout that begins, or goes on over its webhook gate: to a fleet that is guarded, or an
/// urgent one.
pub(crate) async fn begin(
    cx: &Context,
    by: &Actor,
    (fleet, is_urgent): (&FleetId, bool),
) -> Result<(), Error> {
    rollout(cx, by, fleet).await?;
    if is_exempt(by) || !is_urgent {
        return Ok(());
    }
    match kept(cx, &mut cx.db.reader().await?).await? {
        Kept::Policy(policy) if !policy.urgent_rollouts => Ok(()),
        Kept::Policy(_) | Kept::Broken => Err(refused("an urgent rollout")),
    }
}

/// Checks that an operator begins a wave that waits for the approval of a second person.
pub(crate) fn wave(by: &Actor, wave: u32) -> Result<(), Error> {
    if is_exempt(by) { Ok(()) } else { Err(refused(&format!("wave {}", wave + 1))) }
}

/// Checks a change of the ways to a release: what devices of every fleet run on their way.
pub(crate) async fn release_path(cx: &Context, by: &Actor) -> Result<(), Error> {
    if is_exempt(by) {
        return Ok(());
    }
    match kept(cx, &mut cx.db.reader().await?).await? {
        Kept::Policy(policy) if !policy.release_paths => Ok(()),
        Kept::Policy(_) | Kept::Broken => Err(refused("a change of floors and blocked ways")),
    }
}

/// Checks that a recovery key may be shown.
pub(crate) async fn recovery_key(cx: &Context, by: &Actor) -> Result<(), Error> {
    if is_exempt(by) {
        return Ok(());
    }
    match kept(cx, &mut cx.db.reader().await?).await? {
        Kept::Policy(policy) if !policy.recovery_keys => Ok(()),
        Kept::Policy(_) | Kept::Broken => Err(refused("a recovery key")),
    }
}

/// Checks a revocation, and counts its devices in the caller's transaction.
pub(crate) async fn revocation(
    cx: &Context,
    tx: &mut Tx<'_>,
    by: &Actor,
    devices: u64,
) -> Result<(), Error> {
    if is_exempt(by) {
        return Ok(());
    }
    let max = match kept(cx, tx).await? {
        Kept::Policy(ApprovalPolicy { revoked_max: None, .. }) => return Ok(()),
        Kept::Policy(ApprovalPolicy { revoked_max: Some(max), .. }) => u64::from(max),
        Kept::Broken => 0,
    };
    let now_s = cx.now_s();
    let since_s = now_s.saturating_sub(REVOKED_WITHIN_S);
    let before = store::pending_acts::revoked_alone(tx, by.account(), since_s).await?;
    if before.saturating_add(devices) > max {
        return Err(refused(&format!(
            "the revocation or reset of more than {max} devices within an hour"
        )));
    }
    let counted = (by.account(), devices);
    Ok(store::pending_acts::count_alone(tx, counted, (now_s, since_s)).await?)
}

/// As [`revocation`], for one device, in a transaction of its own.
pub(crate) async fn revocation_of_one(cx: &Context, by: &Actor) -> Result<(), Error> {
    if is_exempt(by) {
        return Ok(());
    }
    let mut tx = cx.db.write().await?;
    revocation(cx, &mut tx, by, 1).await?;
    Ok(tx.commit().await?)
}

fn check(policy: &ApprovalPolicy) -> Result<(), Error> {
    let invalid = |text: String| Err(Error::new(Code::Invalid, text));
    if policy.rollout_fleets.len() > FLEETS_MAX {
        return invalid(format!("rollout_fleets: more than {FLEETS_MAX} fleets"));
    }
    if policy.revoked_max.is_some_and(|max| u64::from(max) > REVOKED_MAX) {
        return invalid(format!("revoked_max: more than {REVOKED_MAX}, the most for one request"));
    }
    Ok(())
}

/// The part of a policy that an actor may see.
pub(crate) fn seen(by: &Actor, mut policy: ApprovalPolicy) -> ApprovalPolicy {
    policy.rollout_fleets.retain(|fleet| by.may(Permission::View, Scope::Fleet(fleet)));
    policy
}

/// Sets which acts need a second person. Where any does already, this does as well.
///
/// # Errors
/// [`Code::Invalid`]; [`Code::SecondPerson`]; [`Code::Conflict`] without two people who administer
/// the server; [`Code::PreconditionFailed`].
pub async fn set_policy(
    cx: &Context,
    by: &Actor,
    policy: &ApprovalPolicy,
    expected: &Expected,
) -> Result<ApprovalPolicy, Error> {
    check(policy)?;
    let mut policy = policy.clone();
    policy.rollout_fleets.sort();
    policy.rollout_fleets.dedup();
    let mut tx = cx.db.write().await?;
    let now = match kept(cx, &mut tx).await? {
        Kept::Policy(now) => Some(now),
        Kept::Broken => None,
    };
    let is_open = now.as_ref().is_some_and(ApprovalPolicy::is_empty);
    if !is_open && !is_exempt(by) {
        return Err(refused("a change of the approval policy"));
    }
    expected.check(now.map(|now| seen(by, now)).as_ref())?;
    if !policy.is_empty() && people::administrators(cx, &mut tx).await? < 2 {
        let text = "fewer than two people administer the server: nobody could approve";
        return Err(Error::new(Code::Conflict, text)
            .hint("first give the role admin to another person, who has set a password"));
    }
    let text = String::from_utf8(canonical::to_vec(&policy).map_err(Error::internal)?)
        .map_err(Error::internal)?;
    let seal = cx.accounts.seal(SEALED_AS, &text)?;
    store::pending_acts::set_policy(&mut tx, &text, &seal).await?;
    cx.audit(&mut tx, by.act("approval.policy", text)).await?;
    tx.commit().await?;
    Ok(policy)
}
