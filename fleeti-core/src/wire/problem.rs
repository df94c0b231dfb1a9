//! Problem details (RFC 9457) with stable codes.

use serde::{Deserialize, Serialize};

/// Prefix of every problem's `type` URI; the code follows.
pub const TYPE_PREFIX: &str = "urn:fleeti:problem:";

/// What went wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// The body is not the JSON that it says it is.
    Malformed,
    /// The request has a value that is not allowed, or lacks one.
    Invalid,
    /// No credential, or a wrong one.
    Unauthenticated,
    /// The credential does not allow this.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// There is such a thing, and this method is none of those that it has; `Allow` lists them.
    MethodNotAllowed,
    /// It exists already, or its state does not allow this.
    Conflict,
    /// What the request makes its condition does not hold.
    PreconditionFailed,
    /// Larger than allowed.
    TooLarge,
    /// The body is of another media type than the one that is read here.
    UnsupportedMediaType,
    /// No byte of the file is in the range that is asked for; `Content-Range` has its size.
    RangeNotSatisfiable,
    /// A signature or digest is wrong.
    Untrusted,
    /// The request did not arrive in time.
    Timeout,
    /// This client asks for too much at once. Come back later.
    TooMany,
    /// The server's disk has no room for it.
    Full,
    /// Not now: too much is asked at once, or a part of the server is away. Come back later.
    Unavailable,
    /// A fault of the server; the log has more.
    Internal,
}

impl Code {
    /// The stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Conflict => "conflict",
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
    /// [`TYPE_PREFIX`] and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// HTTP status.
    pub status: u16,
    /// What was wrong, and where.
    pub detail: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Each thing that is wrong in the body, where there is more to say than `detail` does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// One thing that is wrong in a request's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FieldError {
    /// As in `users[1].ssh_keys[0]`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}
