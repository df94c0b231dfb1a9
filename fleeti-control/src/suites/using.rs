//! Runs searches and checks away from the tasks that serve connections.

use super::opened::OpenIndex;
use crate::context::Context;
use crate::error::Error;
use fleeti_build::suite;
use fleeti_core::profile::{Effects, Image, Profile, effects};
use std::sync::Arc;

/// Does something with the index, away from the tasks that serve connections; `None` if there is no
/// index. Few run at the same time, so that they do not need much memory.
pub(crate) async fn with<T: Send + 'static>(
    cx: &Context,
    work: impl FnOnce(Option<&OpenIndex>) -> T + Send + 'static,
) -> Result<T, Error> {
    let state = Arc::clone(&cx.suites.shared);
    let place = Arc::clone(&state.places).acquire_owned().await.map_err(Error::internal)?;
    let done = tokio::task::spawn_blocking(move || {
        // Work goes on when nobody waits for it any more: it has its place until it is done.
        let _place = place;
        work(state.open().as_deref())
    });
    done.await.map_err(Error::internal)
}

/// What a change of a profile does to a device, as far as the index knows the packages.
pub(crate) async fn effects_of(
    cx: &Context,
    before: Profile,
    after: Profile,
) -> Result<Effects, Error> {
    with(cx, move |index| {
        let image = |profile| -> Result<Image<'_>, Error> {
            let installed = match index {
                Some(index) => index.installed(profile),
                None => suite::installed(profile, None).map_err(Error::internal),
            };
            Ok(Image { profile, installed: installed? })
        };
        Ok(effects(&image(&before)?, &image(&after)?))
    })
    .await?
}
