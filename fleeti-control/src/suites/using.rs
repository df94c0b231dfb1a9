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
    let _place = state.places.acquire().await.map_err(Error::internal)?;
    let shared = Arc::clone(&state);
    let done = tokio::task::spawn_blocking(move || work(shared.open().as_deref()));
    done.await.map_err(Error::internal)
}
