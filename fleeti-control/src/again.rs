//! Repeats what lost against a foreign session of PostgreSQL, such as an operator's `psql`. The
//! transactions of a server do not conflict with each other.

use crate::error::Error;

/// How often an operation is tried.
pub const ATTEMPTS_MAX: u32 = 3;

/// Performs an operation again while its transaction loses against another session. The operation
/// must have no effect before its commit but those that may happen twice.
///
/// # Errors
/// The operation's own; after [`ATTEMPTS_MAX`] conflicts, that of the last one.
pub(crate) async fn on_conflict<T, F>(mut operation: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut attempt = 1;
    loop {
        match operation().await {
            Err(e) if e.is_conflict() && attempt < ATTEMPTS_MAX => attempt += 1,
            ended => return ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleeti_core::wire::problem::Code;
    use fleeti_store::StoreError;
    use std::cell::Cell;

    /// The result of an operation that returns the number of its attempts, and loses this often.
    async fn after(conflicts: u32) -> Result<u32, Code> {
        let tried = Cell::new(0);
        let ended = on_conflict(|| async {
            tried.set(tried.get() + 1);
            if tried.get() <= conflicts {
                return Err(StoreError::Conflict { what: "a row".into() }.into());
            }
            Ok(tried.get())
        });
        let ended = ended.await.map_err(|e| e.code());
        assert!(tried.get() <= ATTEMPTS_MAX);
        ended
    }

    #[tokio::test]
    async fn an_operation_is_tried_three_times_at_most() {
        assert_eq!(after(0).await, Ok(1));
        assert_eq!(after(2).await, Ok(3));
        assert_eq!(after(3).await, Err(Code::Unavailable));
    }

    #[tokio::test]
    async fn another_error_is_final() {
        let tried = Cell::new(0);
        let ended: Result<(), _> = on_conflict(|| async {
            tried.set(tried.get() + 1);
            Err(Error::new(Code::Unavailable, "the signing service does not answer"))
        })
        .await;
        assert!(ended.is_err());
        assert_eq!(tried.get(), 1);
    }
}
