//! The error type of the services. Only this module knows HTTP status codes.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use fleeti_core::wire::problem::{Code, FieldError, Problem, TYPE_PREFIX};

/// A refused request or an internal error.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct AppError {
    code: Code,
    detail: String,
    hint: Option<&'static str>,
    errors: Vec<FieldError>,
    retry_after_s: u64,
    ends_connection: bool,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// Default of `Retry-After` for a client that hit a limit, in seconds.
pub const RETRY_AFTER_S: u64 = 5;

impl AppError {
    /// An error with a stable code.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            hint: None,
            errors: vec![],
            retry_after_s: RETRY_AFTER_S,
            ends_connection: false,
            headers: vec![],
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
    /// Sets `Retry-After`, in seconds.
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
    /// The problem document of this error.
    #[must_use]
    pub fn problem(&self) -> Problem {
        Problem {
            kind: format!("{TYPE_PREFIX}{}", self.code.as_str()),
            status: self.status_code().as_u16(),
            detail: self.detail.clone(),
            hint: self.hint.map(str::to_owned),
            errors: self.errors.clone(),
        }
    }
    /// Adds a response header, such as `Allow`.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
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
    /// An internal error. Logs `e` here, once; the response contains no detail.
    pub fn internal(e: impl std::fmt::Display) -> Self {
        tracing::error!("{e}");
        Self::new(Code::Internal, "internal error; see the log of the server")
    }
    /// The error for an object that does not exist.
    #[must_use]
    pub fn not_found(what: &str, id: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no {what} {id:?}"))
    }
}

impl From<fleeti_store::StoreError> for AppError {
    fn from(e: fleeti_store::StoreError) -> Self {
        Self::internal(e)
    }
}
impl From<serde_json::Error> for AppError {
    fn from(e: serde_json::Error) -> Self {
        Self::internal(e)
    }
}
impl From<fleeti_pki::Error> for AppError {
    fn from(e: fleeti_pki::Error) -> Self {
        Self::internal(e)
    }
}
impl From<std::io::Error> for AppError {
    fn from(e: std::io::Error) -> Self {
        if e.kind() == std::io::ErrorKind::StorageFull {
            return Self::new(Code::Full, "the server's disk is full")
                .hint("free some space, then try again");
        }
        Self::internal(e)
    }
}

impl ResponseError for AppError {
    fn status_code(&self) -> StatusCode {
        match self.code {
            Code::Malformed => StatusCode::BAD_REQUEST,
            Code::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::Forbidden => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Code::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::RangeNotSatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
            Code::Conflict => StatusCode::CONFLICT,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::Untrusted => StatusCode::UNPROCESSABLE_ENTITY,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::Timeout => StatusCode::REQUEST_TIMEOUT,
            Code::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Code::Full => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        if matches!(self.code, Code::Unavailable | Code::TooMany) {
            response.insert_header((header::RETRY_AFTER, self.retry_after_s));
        }
        for (name, value) in &self.headers {
            response.insert_header((name.clone(), value.clone()));
        }
        if self.ends_connection {
            response.force_close();
        }
        response.content_type("application/problem+json").json(self.problem())
    }
}
