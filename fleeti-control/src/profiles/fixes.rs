//! Security fixes that the newest build of a profile lacks.

use crate::context::Context;
use crate::error::Error;
use crate::suites;
use fleeti_build::lock::Lock;
use fleeti_build::waiting::WaitingFix;
use fleeti_core::id::ReleaseName;
use fleeti_core::wire::api::Build;

/// Security fixes that a build lacks.
#[derive(Debug)]
pub struct Fixes {
    /// The release of the build.
    pub release: ReleaseName,
    /// The fixes, the oldest first.
    pub waiting: Vec<WaitingFix>,
}

/// The fixes that a build lacks; `None` if its lock or the index of the suite cannot be read.
pub(super) async fn of(cx: &Context, build: Build) -> Result<Option<Fixes>, Error> {
    let path = cx.settings.data.join("builds").join(&build.id).join("lock.json");
    suites::with(cx, move |index| {
        let index = index?;
        let lock = Lock::read(&path).ok()?;
        Some(Fixes { release: build.release, waiting: index.waiting(&lock)? })
    })
    .await
}
