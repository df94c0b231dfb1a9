//! Versions of resources: `ETag` in answers, `If-Match` and `If-None-Match: *` in changes (RFC 9110,
//! 8.8.3 and 13.1). All tags are strong, so a weak one matches nothing.

use crate::error::AppError;
use actix_web::body::BoxBody;
use actix_web::dev::Payload;
use actix_web::http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use actix_web::{FromRequest, HttpRequest, HttpResponse, Responder, ResponseError};
use fleeti_control::precondition::{self, Expected, TAGS_MAX};
use fleeti_core::wire::problem::Code;
use serde::Serialize;
use std::future::{Ready, ready};
use std::ops::Deref;

/// A JSON response with the tag of its resource.
#[derive(Debug)]
pub struct Tagged<T> {
    value: T,
    tag: Option<String>,
}

impl<T: Serialize> Tagged<T> {
    /// With the tag of the value itself.
    pub fn of(value: T) -> Self {
        Self { value, tag: None }
    }
    /// With the tag of something else that changes when the resource does.
    pub fn by(value: T, version: &impl Serialize) -> Result<Self, AppError> {
        Ok(Self { value, tag: Some(precondition::tag(version)?) })
    }
}

impl<T: Serialize> Responder for Tagged<T> {
    type Body = BoxBody;
    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        let tag = self.tag.map_or_else(|| precondition::tag(&self.value), Ok);
        match tag {
            Ok(tag) => {
                HttpResponse::Ok().insert_header((ETAG, format!("\"{tag}\""))).json(self.value)
            }
            Err(e) => AppError::from(e).error_response(),
        }
    }
}

/// What a change expects. An argument of handlers.
#[derive(Debug)]
pub struct IfMatch(Expected);

impl Deref for IfMatch {
    type Target = Expected;
    fn deref(&self) -> &Expected {
        &self.0
    }
}

impl FromRequest for IfMatch {
    type Error = AppError;
    type Future = Ready<Result<Self, AppError>>;
    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(expected(request).map(Self))
    }
}

fn expected(request: &HttpRequest) -> Result<Expected, AppError> {
    let mut lines = Vec::new();
    for line in request.headers().get_all(IF_MATCH) {
        lines.push(line.to_str().map_err(|_| malformed("If-Match"))?.trim());
    }
    match (lines.as_slice(), request.headers().get(IF_NONE_MATCH)) {
        ([], None) => Ok(Expected::Anything),
        ([], Some(none)) if none.as_bytes() == b"*" => Ok(Expected::Absent),
        (_, Some(_)) => Err(malformed("If-None-Match")),
        (["*"], None) => Ok(Expected::Present),
        (_, None) => tags(&lines.join(",")).map(Expected::Tags),
    }
}

/// The strong tags of a list.
fn tags(list: &str) -> Result<Vec<String>, AppError> {
    let (mut rest, mut found) = (list.trim(), Vec::new());
    for _ in 0..TAGS_MAX {
        let (is_weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let opened = quoted.strip_prefix('"').ok_or_else(|| malformed("If-Match"))?;
        let (tag, after) = opened.split_once('"').ok_or_else(|| malformed("If-Match"))?;
        if !tag.bytes().all(|b| matches!(b, b' '..=b'~')) {
            return Err(malformed("If-Match"));
        }
        if !is_weak {
            found.push(tag.to_owned());
        }
        rest = after.trim_start();
        if rest.is_empty() {
            return Ok(found);
        }
        rest = rest.strip_prefix(',').ok_or_else(|| malformed("If-Match"))?.trim_start();
    }
    Err(malformed("If-Match"))
}

fn malformed(header: &str) -> AppError {
    let text = format!("{header} must be * or at most {TAGS_MAX} ETags in quotation marks");
    let text =
        if header == "If-None-Match" { "If-None-Match must be *, without If-Match" } else { &text };
    AppError::new(Code::Invalid, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn of(headers: &[(&'static str, &str)]) -> Option<Expected> {
        let request = headers.iter().fold(TestRequest::default(), |r, h| r.append_header(*h));
        expected(&request.to_http_request()).ok()
    }

    #[test]
    fn a_change_expects_what_its_headers_name() {
        let tags = |tags: &[&str]| Some(Expected::Tags(tags.iter().map(|&t| t.into()).collect()));
        assert_eq!(of(&[]), Some(Expected::Anything));
        assert_eq!(of(&[("if-match", "*")]), Some(Expected::Present));
        assert_eq!(of(&[("if-none-match", "*")]), Some(Expected::Absent));
        assert_eq!(of(&[("if-match", "\"a\"")]), tags(&["a"]));
        assert_eq!(of(&[("if-match", "\"a\" , \"b,c\"")]), tags(&["a", "b,c"]));
        assert_eq!(of(&[("if-match", "\"a\""), ("if-match", "\"b\"")]), tags(&["a", "b"]));
        // RFC 9110, 13.1.1: If-Match compares strongly.
        assert_eq!(of(&[("if-match", "W/\"a\"")]), tags(&[]));
        let many = vec!["\"a\""; TAGS_MAX + 1].join(",");
        for wrong in [
            "",
            "a",
            "\"a",
            "a\"",
            "\"a\"\"b\"",
            "\"a\",",
            ",",
            "*,\"a\"",
            "w/\"a\"",
            many.as_str(),
        ] {
            assert_eq!(of(&[("if-match", wrong)]), None, "{wrong:?}");
        }
        for wrong in ["\"a\"", "", "**"] {
            assert_eq!(of(&[("if-none-match", wrong)]), None, "{wrong:?}");
        }
        assert_eq!(of(&[("if-match", "\"a\""), ("if-none-match", "*")]), None);
    }
}
