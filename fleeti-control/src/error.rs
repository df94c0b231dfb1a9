//! The error type of the control plane. It has a stable code, what was wrong and what to do; HTTP
//! status codes are the server's.

use fleeti_core::wire::problem::{Code, FieldError, Problem, TYPE_PREFIX};
use std::error::Error as StdError;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::Level;

/// Default of `Retry-After` for a client that hit a limit, in seconds.
pub const RETRY_AFTER_S: u64 = 5;

type Source = Box<dyn StdError + Send + Sync>;

/// A refused request or an internal error.
///
/// INVARIANT: the cause of an internal error is logged once, with all of its sources: in the line of
/// the task in which the error ends, which calls [`Error::for_log`], or otherwise when the error is
/// dropped. So a task that only passes an error on does not log it.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Error {
    code: Code,
    detail: String,
    hint: Option<&'static str>,
    errors: Vec<FieldError>,
    retry_after_s: u64,
    ends_connection: bool,
    is_conflict: bool,
    #[source]
    cause: Option<Box<Cause>>,
}

/// The cause of an error that a client is not told. It is logged when it is dropped, unless it was
/// before.
#[derive(Debug)]
struct Cause {
    source: Source,
    level: Level,
    is_logged: AtomicBool,
}

impl Cause {
    fn new(level: Level, source: impl Into<Source>) -> Self {
        Self { source: source.into(), level, is_logged: AtomicBool::new(false) }
    }
}

impl Drop for Cause {
    fn drop(&mut self) {
        if *self.is_logged.get_mut() {
            return;
        }
        let text = chain(self.source.as_ref());
        match self.level {
            Level::ERROR => tracing::error!("{text}"),
            _ => tracing::warn!("{text}"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.source()
    }
}

impl Error {
    /// An error with a stable code.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            hint: None,
            errors: vec![],
            retry_after_s: RETRY_AFTER_S,
            ends_connection: false,
            is_conflict: false,
            cause: None,
        }
    }
    /// Adds a hint: what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }
    /// Adds the errors of the request's fields.
    #[must_use]
    pub fn errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }
    /// Sets when the client may try again, in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = seconds;
        self
    }
    /// Closes the connection after the response, because no other request over it can succeed.
    #[must_use]
    pub fn and_close(mut self) -> Self {
        self.ends_connection = true;
        self
    }
    /// An internal error. The log gets `e` with its sources; the response contains no detail.
    pub fn internal(e: impl Into<Source>) -> Self {
        Self { cause: Some(Box::new(Cause::new(Level::ERROR, e))), ..Self::logged_internal() }
    }
    /// An internal error whose cause is logged elsewhere: one failure may have many waiting for it.
    pub(crate) fn logged_internal() -> Self {
        Self::new(Code::Internal, "internal error; see the log of the server")
    }
    /// The error for an object that does not exist.
    #[must_use]
    pub fn not_found(what: &str, id: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no {what} {id:?}"))
    }
    /// The problem document of this error (RFC 9457), with the status that its code has in HTTP.
    #[must_use]
    pub fn problem(&self, status: u16) -> Problem {
        Problem {
            kind: format!("{TYPE_PREFIX}{}", self.code.as_str()),
            status,
            detail: self.detail.clone(),
            hint: self.hint.map(str::to_owned),
            errors: self.errors.clone(),
        }
    }
    /// The hint: what the user can do.
    #[must_use]
    pub fn what_to_do(&self) -> Option<&'static str> {
        self.hint
    }
    /// The text for a line of the log, which the caller writes: that of the cause with its sources,
    /// if there is one. The cause is then not logged again.
    #[must_use]
    pub fn for_log(&self) -> String {
        match &self.cause {
            Some(cause) => {
                cause.is_logged.store(true, Ordering::Relaxed);
                chain(cause.source.as_ref())
            }
            None => self.detail.clone(),
        }
    }
    /// What is wrong, for the client.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }
    /// When the client may try again, in seconds.
    #[must_use]
    pub fn retry_after_s(&self) -> u64 {
        self.retry_after_s
    }
    /// Whether a transaction lost against a foreign session of the database. It has written
    /// nothing.
    pub(crate) fn is_conflict(&self) -> bool {
        self.is_conflict
    }
    /// Whether the connection ends with the response.
    #[must_use]
    pub fn ends_connection(&self) -> bool {
        self.ends_connection
    }
}

/// The text of any error for a line of the log, with its sources, as [`Error::for_log`].
#[must_use]
pub fn for_log(e: &anyhow::Error) -> String {
    chain(&**e)
}

/// An error and its sources, without a text that its successor repeats.
fn chain(e: &(dyn StdError + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(e);
    while let Some(cause) = next {
        let ours = cause.downcast_ref::<Error>();
        // What wraps one of ours repeats what a client is told, which says nothing to the log.
        texts.retain(|text| ours.is_none_or(|ours| *text != ours.detail));
        let said = ours.map_or_else(|| cause.to_string(), Error::for_log);
        if texts.last().is_none_or(|before| !before.ends_with(&said)) {
            texts.push(said);
        }
        // The text of one of ours has its sources already.
        next = cause.source().filter(|_| ours.is_none());
    }
    texts.join(": ")
}

impl From<fleeti_store::StoreError> for Error {
    fn from(e: fleeti_store::StoreError) -> Self {
        if matches!(e, fleeti_store::StoreError::Conflict { .. }) {
            let detail = "another session uses the same rows of the database; nothing has changed";
            return Self {
                is_conflict: true,
                cause: Some(Box::new(Cause::new(Level::WARN, e))),
                ..Self::new(Code::Unavailable, detail).hint("try again")
            };
        }
        Self::internal(e)
    }
}
impl From<serde_json::Error> for Error {
    fn from(e: serde_json::Error) -> Self {
        Self::internal(e)
    }
}
impl From<fleeti_pki::Error> for Error {
    fn from(e: fleeti_pki::Error) -> Self {
        Self::internal(e)
    }
}
impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        if e.kind() == std::io::ErrorKind::StorageFull {
            return Self::new(Code::Full, "the server's disk is full")
                .hint("free some space, then try again");
        }
        Self::internal(e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct NotApplied(#[from] Error);

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged meanwhile: level and text of each line.
    fn logged(act: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let format = tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false);
        let subscriber = format.with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, act);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    /// An error with two sources.
    fn broken() -> Error {
        let deep = io::Error::other("the cable is loose");
        Error::internal(Err::<(), _>(deep).context("reading the list").unwrap_err())
    }

    #[test]
    fn an_internal_error_keeps_its_sources_and_tells_no_client() {
        let e = broken();
        assert_eq!(chain(&e), "reading the list: the cable is loose");
        assert!(!e.problem(500).detail.contains("cable"));
        assert!(!format!("{e}").contains("cable"));
    }

    #[test]
    fn an_internal_error_is_logged_once_with_its_sources() {
        const ALONE: &str = "ERROR reading the list: the cable is loose";
        // It ends in a response, or nobody looks at it.
        assert_eq!(logged(|| drop(broken())), [ALONE]);
        assert_eq!(logged(|| drop(broken().hint("try again").retry_after(1))), [ALONE]);
        // It ends in a task.
        let task = || tracing::warn!("a rollout waits: {}", broken().for_log());
        const TASK: &str = "WARN a rollout waits: reading the list: the cable is loose";
        assert_eq!(logged(task), [TASK]);
        // The same, after it became an error of another kind.
        let task = || tracing::warn!("a rollout waits: {}", for_log(&broken().into()));
        assert_eq!(logged(task), [TASK]);
        let wrapped = || anyhow::Error::from(NotApplied::from(broken())).context("kiosk");
        assert_eq!(
            logged(|| tracing::warn!("{}", for_log(&wrapped()))),
            ["WARN kiosk: reading the list: the cable is loose"]
        );
        // An error of a service is the cause of another one.
        assert_eq!(logged(|| drop(Error::internal(wrapped()))).len(), 1);
    }

    #[test]
    fn a_refusal_is_not_logged_and_a_conflict_is_a_warning() {
        let refused = Error::new(Code::Invalid, "no");
        assert_eq!(refused.for_log(), "no");
        assert_eq!(logged(|| drop(refused)), [""; 0]);
        let lost = || fleeti_store::StoreError::Conflict { what: "a row".into() };
        assert_eq!(
            logged(|| drop(Error::from(lost()))),
            ["WARN another session uses the same rows of the database: a row"]
        );
    }
}
