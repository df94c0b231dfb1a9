//! Requests of a command, and their errors.

use crate::output::Failure;
use fleeti_client::ClientError;

/// A client's error, with its hint.
pub fn refused(e: ClientError) -> Failure {
    let hint = e.hint();
    Failure::new(e, hint)
}

/// Runs a future to its end. Commands are synchronous and call this for requests only; a nested
/// call panics, because a runtime cannot start within another.
pub fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::plain)?
        .block_on(future)
}
