//! Runs searches and checks away from the tasks that serve connections.

use super::opened::OpenIndex;
use crate::context::Context;
use crate::error::Error;
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
