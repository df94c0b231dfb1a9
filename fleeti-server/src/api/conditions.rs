//! `If-Match` on changes: an operation that does not compare it refuses it, so that nobody
//! overwrites what they have not seen (RFC 9110, 13.1.1).

use super::Result;
use crate::error::AppError;
use actix_web::dev::ServiceRequest;
use actix_web::http::Method;
use actix_web::http::header::{IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};
use fleeti_core::wire::problem::Code;

/// The changes that take `If-Match`, by method and path.
const COMPARED: [(&str, &str); 7] = [
    ("POST", "/api/v1/profiles"),
    ("POST", "/api/v1/profiles/documents"),
    ("PUT", "/api/v1/alert-rules/{rule}"),
    ("PUT", "/api/v1/approval-policy"),
    ("PUT", "/api/v1/fleets/{fleet}/attestation-policy"),
    ("PUT", "/api/v1/releases/{release}/path"),
    ("PUT", "/api/v1/views/{view}"),
];

/// Refuses a change with a condition that would not be looked at.
pub(super) fn check(request: &ServiceRequest) -> Result<()> {
    let method = request.method();
    let has = |header| request.headers().contains_key(header);
    if [Method::GET, Method::HEAD].contains(method) {
        return Ok(());
    }
    let pattern = request.match_pattern().unwrap_or_default();
    let compares = COMPARED.contains(&(method.as_str(), pattern.as_str()));
    let header = match () {
        () if has(IF_UNMODIFIED_SINCE) => "If-Unmodified-Since",
        () if has(IF_MATCH) && !compares => "If-Match",
        () if has(IF_NONE_MATCH) && !compares => "If-None-Match",
        () => return Ok(()),
    };
    let text = format!("this operation cannot compare {header}; nothing was changed");
    Err(AppError::new(Code::Malformed, text)
        .hint("read the object, decide, and send the request without the header"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_operations_that_compare_are_those_that_are_documented() {
        let document = serde_json::to_value(crate::api::openapi::document()).unwrap();
        let mut documented = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                if parameters.into_iter().any(|p| p["name"] == "If-Match") {
                    documented.insert((method.to_uppercase(), path.clone()));
                }
            }
        }
        let compared = COMPARED.iter().map(|(m, p)| ((*m).to_owned(), (*p).to_owned()));
        assert_eq!(documented, compared.collect());
    }
}
