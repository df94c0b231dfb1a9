//! The ways to a release: whether it is a floor, and from which versions it is not offered.

use super::checked_reason;
use crate::accounts::actor::Actor;
use crate::context::Context;
use crate::error::Error;
use crate::precondition::Expected;
use crate::{guard, releases};
use fleeti_core::foreign::Foreign;
use fleeti_core::id::ReleaseName;
use fleeti_core::rollout::gates::{Blocked, ReleasePath};
use fleeti_core::wire::api::Event;
use fleeti_core::wire::problem::Code;
use fleeti_store as store;

/// The path to a release.
///
/// # Errors
/// [`Code::NotFound`] for a release that is not published.
pub async fn get(cx: &Context, release: &ReleaseName) -> Result<ReleasePath, Error> {
    releases::get(cx, release).await?;
    Ok(store::release_paths::get(&mut cx.db.reader().await?, release).await?)
}

/// Replaces the path to a release. Devices of active rollouts are compared with it in chunks; others
/// when they report or connect.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Invalid`] for a reason that is empty or too long, and for a range that
/// can have no effect; [`Code::Conflict`] for a floor that is revoked; [`Code::PreconditionFailed`];
/// [`Code::SecondPerson`].
pub async fn set(
    cx: &Context,
    by: &Actor,
    release: &ReleaseName,
    path: &ReleasePath,
    expected: &Expected,
) -> Result<ReleasePath, Error> {
    guard::release_path(cx, by).await?;
    let found = releases::get(cx, release).await?;
    let path = checked(release, path)?;
    if path.floor.is_some() && found.revoked_s.is_some() {
        let text = format!("{release} is revoked: no device could pass it");
        return Err(Error::new(Code::Conflict, text).hint("make another release the floor"));
    }
    let mut tx = cx.db.write().await?;
    expected.check(Some(&store::release_paths::get(&mut tx, release).await?))?;
    store::release_paths::set(&mut tx, release, &path).await?;
    store::release_paths::changed(&mut tx, &release.line).await?;
    cx.audit(&mut tx, by.act("release.path", words(release, &path))).await?;
    cx.commit(tx, Event::Release { name: release.clone() }).await?;
    cx.rollouts.has_work();
    Ok(path)
}

fn checked(release: &ReleaseName, path: &ReleasePath) -> Result<ReleasePath, Error> {
    path.check(&release.version).map_err(|e| Error::new(Code::Invalid, e.to_string()))?;
    let floor = path.floor.as_deref().map(checked_reason).transpose()?.map(str::to_owned);
    let blocked = path.blocked.iter().map(|way| {
        let reason = checked_reason(&way.reason)?.to_owned();
        Ok(Blocked { reason, ..way.clone() })
    });
    Ok(ReleasePath { floor, blocked: blocked.collect::<Result<_, Error>>()? })
}

/// For the audit log.
fn words(release: &ReleaseName, path: &ReleasePath) -> String {
    let floor = path.floor.as_ref().map_or_else(
        || " no floor".to_owned(),
        |reason| format!(" floor: {}", Foreign::log(reason)),
    );
    let way = |way: &Blocked| format!("; blocked from {}: {}", way.from, Foreign::log(&way.reason));
    format!("{release}{floor}{}", path.blocked.iter().map(way).collect::<String>())
}
