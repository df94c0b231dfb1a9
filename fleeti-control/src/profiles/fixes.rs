//! Security fixes that the newest build of a profile lacks.

use crate::context::Context;
use crate::error::Error;
use crate::suites;
use fleeti_build::lock::Lock;
use fleeti_build::waiting::WaitingFix;
use fleeti_core::id::ReleaseName;
use fleeti_core::wire::api::Build;
use fleeti_store as store;

/// Security fixes that a build lacks.
#[derive(Debug)]
pub struct Fixes {
    /// The release of the build.
    pub release: ReleaseName,
    /// The fixes, the oldest first.
    pub waiting: Vec<WaitingFix>,
}

/// The fixes that a release lacks; `None` if this server has no files of its build, or no index.
pub async fn of_release(cx: &Context, release: &ReleaseName) -> Result<Option<Fixes>, Error> {
    match store::builds::with_files(cx.db.pool(), release).await? {
        Some(build) => of(cx, build).await,
        None => Ok(None),
    }
}

/// The fixes that a release lacks by the index of now, as [`of_release`].
pub async fn of_release_now(cx: &Context, release: &ReleaseName) -> Result<Option<Fixes>, Error> {
    match store::builds::with_files(cx.db.pool(), release).await? {
        Some(build) => now(cx, build).await,
        None => Ok(None),
    }
}

/// The fixes that a build lacks, as they were half a minute ago or later; `None` if its lock or the
/// index of the suite cannot be read.
pub(super) async fn of(cx: &Context, build: Build) -> Result<Option<Fixes>, Error> {
    if let Some(waiting) = cx.profiles.fixes(&build.id, cx.now_s()) {
        return Ok(Some(Fixes { release: build.release, waiting }));
    }
    now(cx, build).await
}

async fn now(cx: &Context, build: Build) -> Result<Option<Fixes>, Error> {
    let (now_s, id) = (cx.now_s(), build.id.clone());
    let path = cx.settings.data.join("builds").join(&id).join("lock.json");
    let found = suites::with(cx, move |index| {
        let index = index?;
        let lock = Lock::read(&path)
            .inspect_err(|e| tracing::error!("the lock of build {}: {e}", build.id))
            .ok()?;
        Some(Fixes { release: build.release, waiting: index.waiting(&lock)? })
    })
    .await?;
    if let Some(fixes) = &found {
        cx.profiles.found(&id, &fixes.waiting, now_s);
    }
    Ok(found)
}
