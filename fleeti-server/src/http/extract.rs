//! What handlers are given out of a request, and what is said when it cannot be read: always a
//! problem (RFC 9457).
//!
//! The one place that reads bodies. A body has the media type that is read here (415), at most the
//! bytes that are allowed (413), is JSON (400), and says what is documented and nothing else (422,
//! [`fleeti_core::strict`]).

use crate::error::AppError;
use actix_web::body::BoxBody;
use actix_web::dev::Payload;
use actix_web::error::{PathError, PayloadError, QueryPayloadError};
use actix_web::http::header::{
    ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue,
};
use actix_web::web::{self, BytesMut, PathConfig, QueryConfig};
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, Responder};
use fleeti_core::foreign::Foreign;
use fleeti_core::strict;
use fleeti_core::wire::problem::Code;
use futures::{Stream, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ops::Deref;
use std::pin::Pin;

type Extracting<T> = Pin<Box<dyn Future<Output = Result<T, AppError>>>>;

/// Most bytes of a body, as `app_data` of an application, scope or resource.
#[derive(Debug, Clone, Copy)]
pub struct BodyMax(pub usize);

/// Most bytes where nobody says.
const BODY_MAX: usize = 64 * 1024;

/// A body of JSON, or an answer of JSON.
///
/// The name is the one by which utoipa knows a body in a handler's arguments.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T> Deref for Json<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: DeserializeOwned + Serialize + 'static> FromRequest for Json<T> {
    type Error = AppError;
    type Future = Extracting<Self>;
    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (is_json, body) = (media_type(request, "application/json"), body(request, payload));
        Box::pin(async move {
            if let Err(refused) = is_json {
                // Read, so that the refusal is heard.
                body.await.ok();
                return Err(refused);
            }
            strict::from_slice(&body.await?).map(Self).map_err(unreadable)
        })
    }
}

impl<T: Serialize> Responder for Json<T> {
    type Body = BoxBody;
    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::Ok().json(self.0)
    }
}

/// A body of bytes.
#[derive(Debug)]
pub struct Octets(pub web::Bytes);

impl FromRequest for Octets {
    type Error = AppError;
    type Future = Extracting<Self>;
    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = body(request, payload);
        Box::pin(async move { body.await.map(Self) })
    }
}

fn unreadable(e: serde_json::Error) -> AppError {
    let code = if e.is_syntax() || e.is_eof() { Code::Malformed } else { Code::Invalid };
    AppError::new(code, format!("the body: {}", Foreign::new(&e.to_string(), 400)))
}

/// Reads a body as far as is allowed.
fn body(request: &HttpRequest, payload: &mut Payload) -> Extracting<web::Bytes> {
    let limit = request.app_data::<BodyMax>().map_or(BODY_MAX, |max| max.0);
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    let mut payload = payload.take();
    Box::pin(async move {
        let too_large =
            || AppError::new(Code::TooLarge, format!("the body has more than {limit} bytes"));
        if announced.is_some_and(|size| size > limit) {
            drain(payload).await;
            return Err(too_large());
        }
        let mut bytes = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(broken_off)?;
            if bytes.len() + chunk.len() > limit {
                drain(payload).await;
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    })
}

/// Bytes that are thrown away of a body that is refused.
const DRAINED_MAX: usize = 4 << 20;

/// Throws the rest of a body away, as far as that is cheap: whoever still sends when the connection
/// is closed hears nothing of the refusal.
pub async fn drain(mut payload: impl Stream<Item = Result<web::Bytes, PayloadError>> + Unpin) {
    let mut size = 0;
    while let Some(Ok(chunk)) = payload.next().await {
        size += chunk.len();
        if size > DRAINED_MAX {
            return;
        }
    }
}

fn broken_off(e: PayloadError) -> AppError {
    AppError::new(Code::Malformed, format!("the body broke off: {e}"))
}

/// Refuses a body of another media type, and one that is packed: nothing here unpacks.
fn media_type(request: &HttpRequest, wanted: &'static str) -> Result<(), AppError> {
    let packed = request
        .headers()
        .get(CONTENT_ENCODING)
        .is_some_and(|v| !v.as_bytes().eq_ignore_ascii_case(b"identity"));
    // RFC 9110, 15.5.16: what would be read.
    let refused = |detail: &str| {
        AppError::new(Code::UnsupportedMediaType, detail)
            .header(ACCEPT, HeaderValue::from_static(wanted))
    };
    if packed {
        return Err(refused("the body is packed (Content-Encoding), and is read as it is alone"));
    }
    if request.headers().contains_key(CONTENT_TYPE)
        && request.content_type().trim().eq_ignore_ascii_case(wanted)
    {
        return Ok(());
    }
    Err(refused(&format!("the body has to be {wanted}")))
}

/// What is said of a part of a path that cannot be read.
#[must_use]
pub fn paths() -> PathConfig {
    PathConfig::default().error_handler(|e: PathError, _| said("the path", &e).into())
}

/// What is said of a query that cannot be read.
#[must_use]
pub fn queries() -> QueryConfig {
    QueryConfig::default().error_handler(|e: QueryPayloadError, _| said("the query", &e).into())
}

fn said(what: &str, e: &impl std::fmt::Display) -> AppError {
    AppError::new(Code::Invalid, format!("{what}: {}", Foreign::new(&e.to_string(), 400)))
}
