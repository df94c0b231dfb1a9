//! The error type of the control plane. It has a stable code, what was wrong and what to do; HTTP
//! status codes are the server's.

use fleeti_core::wire::problem::{Code, FieldError, Problem, TYPE_PREFIX};
use std::error::Error as StdError;

/// Default of `Retry-After` for a client that hit a limit, in seconds.
pub const RETRY_AFTER_S: u64 = 5;

type Source = Box<dyn StdError + Send + Sync>;

/// A refused request or an internal error.
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
    source: Option<Source>,
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
            source: None,
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
    /// An internal error. Logs `e` with its sources here, once; the response contains no detail.
    pub fn internal(e: impl Into<Source>) -> Self {
        let source = e.into();
        tracing::error!("{}", chain(source.as_ref()));
        let detail = "internal error; see the log of the server";
        Self { source: Some(source), ..Self::new(Code::Internal, detail) }
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

/// An error and its sources, without a text that its successor repeats.
fn chain(e: &dyn StdError) -> String {
    let mut text = e.to_string();
    let mut next = e.source();
    while let Some(source) = next {
        let said = source.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        next = source.source();
    }
    text
}

impl From<fleeti_store::StoreError> for Error {
    fn from(e: fleeti_store::StoreError) -> Self {
        if matches!(e, fleeti_store::StoreError::Conflict { .. }) {
            tracing::warn!("{e}");
            let detail = "another session uses the same rows of the database; nothing has changed";
            return Self {
                is_conflict: true,
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

    #[test]
    fn an_internal_error_keeps_its_sources_and_tells_no_client() {
        let deep = std::io::Error::other("the cable is loose");
        let e = Error::internal(Err::<(), _>(deep).context("reading the list").unwrap_err());
        let source = StdError::source(&e).unwrap();
        assert_eq!(chain(source), "reading the list: the cable is loose");
        assert!(!e.problem(500).detail.contains("cable"));
    }
}
