//! Errors as HTTP responses. Only this module knows HTTP status codes.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use fleeti_control::error::Error;
use fleeti_core::wire::problem::Code;

/// An error of the control plane, or of a request that did not reach it, as a response.
#[derive(Debug)]
pub struct AppError {
    error: Error,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl AppError {
    /// An error with a stable code.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Error::new(code, detail).into()
    }
    /// Adds a hint: what the user can do.
    #[must_use]
    pub fn hint(self, hint: &'static str) -> Self {
        Self { error: self.error.hint(hint), ..self }
    }
    /// Adds a response header, such as `Allow`.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
    /// Closes the connection after the response, because no other request over it can succeed.
    #[must_use]
    pub fn and_close(self) -> Self {
        Self { error: self.error.and_close(), ..self }
    }
    /// An internal error, see [`Error::internal`].
    pub fn internal(e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Error::internal(e).into()
    }
    /// The error for an object that does not exist.
    #[must_use]
    pub fn not_found(what: &str, id: &str) -> Self {
        Error::not_found(what, id).into()
    }
    /// The error of the control plane.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.error.code()
    }
    /// A whole response of HTTP/1.1 that closes its connection, for one that no request serves any
    /// more.
    #[must_use]
    pub fn http1(&self) -> Vec<u8> {
        let status = self.status_code();
        let body = serde_json::to_string(&self.error.problem(status.as_u16())).unwrap_or_default();
        let (length, seconds) = (body.len(), self.error.retry_after_s());
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\n\
             content-length: {length}\r\nretry-after: {seconds}\r\nconnection: close\r\n\r\n"
        );
        [head, body].concat().into_bytes()
    }
}

impl std::fmt::Display for AppError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl<E: Into<Error>> From<E> for AppError {
    fn from(e: E) -> Self {
        Self { error: e.into(), headers: vec![] }
    }
}

impl ResponseError for AppError {
    fn status_code(&self) -> StatusCode {
        match self.code() {
            Code::Malformed => StatusCode::BAD_REQUEST,
            Code::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::Forbidden | Code::SecondPerson => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Code::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::RangeNotSatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
            Code::Conflict | Code::InProgress => StatusCode::CONFLICT,
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
        let status = self.status_code();
        let mut response = HttpResponse::build(status);
        if matches!(self.code(), Code::Unavailable | Code::TooMany | Code::InProgress) {
            response.insert_header((header::RETRY_AFTER, self.error.retry_after_s()));
        }
        for (name, value) in &self.headers {
            response.insert_header((name.clone(), value.clone()));
        }
        if self.error.ends_connection() {
            response.force_close();
        }
        let problem = self.error.problem(status.as_u16());
        response.content_type("application/problem+json").json(problem)
    }
}
