//! Problem details (RFC 9457) with stable codes.

use serde::{Deserialize, Serialize};

/// Prefix of every problem's `type` URI; the code follows.
pub const TYPE_PREFIX: &str = "urn:fleeti:problem:";

/// Machine-readable code of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// The body is not valid JSON.
    Malformed,
    /// A value in the request is missing or not allowed.
    Invalid,
    /// No credential, or a wrong one.
    Unauthenticated,
    /// The credential does not permit the request.
    Forbidden,
    /// The act needs the approval of a second person.
    SecondPerson,
    /// The resource does not exist.
    NotFound,
    /// The resource does not support this method; `Allow` lists the ones that it does.
    MethodNotAllowed,
    /// The resource already exists, or its state does not permit the request.
    Conflict,
    /// The same request, by its `Idempotency-Key`, is being worked on. Repeat it in a moment.
    InProgress,
    /// A precondition of the request does not hold.
    PreconditionFailed,
    /// The request is larger than allowed.
    TooLarge,
    /// The body has a media type that this endpoint does not read.
    UnsupportedMediaType,
    /// The requested range has no byte of the file; `Content-Range` has the file's size.
    RangeNotSatisfiable,
    /// A signature or digest does not verify.
    Untrusted,
    /// The request did not arrive in time.
    Timeout,
    /// Too many requests from this client. Retry later.
    TooMany,
    /// The server's disk is full.
    Full,
    /// The server is overloaded, or a part of it is unavailable. Retry later.
    Unavailable,
    /// A fault in the server; its log has the details.
    Internal,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 19] = [
        Self::Malformed,
        Self::Invalid,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::SecondPerson,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Conflict,
        Self::InProgress,
        Self::PreconditionFailed,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::RangeNotSatisfiable,
        Self::Untrusted,
        Self::Timeout,
        Self::TooMany,
        Self::Full,
        Self::Unavailable,
        Self::Internal,
    ];

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::SecondPerson => "second_person",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Conflict => "conflict",
            Self::InProgress => "in_progress",
            Self::PreconditionFailed => "precondition_failed",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::RangeNotSatisfiable => "range_not_satisfiable",
            Self::Untrusted => "untrusted",
            Self::Timeout => "timeout",
            Self::TooMany => "too_many",
            Self::Full => "full",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }
}

/// The body of every error of the HTTP API, `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// `urn:fleeti:problem:` followed by the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// HTTP status.
    pub status: u16,
    /// What is wrong, and where.
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// All errors in the body, if there is more to report than `detail` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// One error in the body of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FieldError {
    /// Path of the field, for example `users[1].ssh_keys[0]`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// What the author probably meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<Suggestion>,
}

/// What the author of a field probably meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Suggestion {
    /// Another value of the field.
    Value(String),
    /// Another name of the field.
    Name(String),
}
