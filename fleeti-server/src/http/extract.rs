//! Extractors for handlers. A request that does not parse is answered with a problem (RFC 9457).
//!
//! Only this module reads bodies. It rejects a body of another media type (415), of more bytes than
//! allowed (413), that is not JSON (400), or that differs from the documented type (422,
//! [`fleeti_core::strict`]).

use crate::error::AppError;
use actix_web::body::BoxBody;
use actix_web::dev::Payload;
use actix_web::error::{PathError, PayloadError, QueryPayloadError};
use actix_web::http::header::{
    ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue,
};
use actix_web::web::{self, BytesMut, PathConfig, QueryConfig};
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, Responder, ResponseError};
use fleeti_core::foreign::Foreign;
use fleeti_core::strict;
use fleeti_core::wire::problem::Code;
use futures::{Stream, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ops::Deref;
use std::pin::Pin;

type Extracting<T> = Pin<Box<dyn Future<Output = Result<T, AppError>>>>;

/// Maximum size of a body in bytes, as `app_data` of an application, scope or resource.
#[derive(Debug, Clone, Copy)]
pub struct BodyMax(pub usize);

/// The limit where no [`BodyMax`] is set.
const BODY_MAX: usize = 64 * 1024;

/// Bytes that most responses fit into: a device's certificate with its issuer's, or a short list.
const RESPONSE_BYTES: usize = 4096;

/// A JSON request or response body.
///
/// utoipa recognises a body among the arguments of a handler by this name.
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
                // Read the body, so that the client can read the error.
                body.await.ok();
                return Err(refused);
            }
            strict::from_request(&body.await?).map(Self).map_err(unreadable)
        })
    }
}

impl<T: Serialize> Responder for Json<T> {
    type Body = BoxBody;
    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        let mut bytes = Vec::with_capacity(RESPONSE_BYTES);
        match serde_json::to_writer(&mut bytes, &self.0) {
            Ok(()) => HttpResponse::Ok().content_type("application/json").body(bytes),
            Err(e) => AppError::internal(e).error_response(),
        }
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

/// Reads a body up to its limit.
pub(crate) fn body(request: &HttpRequest, payload: &mut Payload) -> Extracting<web::Bytes> {
    let limit = request.app_data::<BodyMax>().map_or(BODY_MAX, |max| max.0);
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    let mut payload = payload.take();
    Box::pin(async move {
        let too_large =
            || AppError::new(Code::TooLarge, format!("the body is larger than {limit} bytes"));
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

/// Maximum number of bytes that are discarded of a refused body.
const DRAINED_MAX: usize = 4 << 20;

/// Discards the rest of a body, up to `DRAINED_MAX`: a client that is still sending when the
/// connection closes never reads the error.
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
    AppError::new(Code::Malformed, format!("the body is incomplete: {e}"))
}

/// Refuses a body of another media type, or with a content encoding: the server decodes none.
fn media_type(request: &HttpRequest, wanted: &'static str) -> Result<(), AppError> {
    let packed = request
        .headers()
        .get(CONTENT_ENCODING)
        .is_some_and(|v| !v.as_bytes().eq_ignore_ascii_case(b"identity"));
    // RFC 9110, 15.5.16: the media type that the server accepts.
    let refused = |detail: &str| {
        AppError::new(Code::UnsupportedMediaType, detail)
            .header(ACCEPT, HeaderValue::from_static(wanted))
    };
    if packed {
        return Err(refused("Content-Encoding is not supported: send the body unencoded"));
    }
    if request.headers().contains_key(CONTENT_TYPE)
        && request.content_type().trim().eq_ignore_ascii_case(wanted)
    {
        return Ok(());
    }
    Err(refused(&format!("the media type of the body must be {wanted}")))
}

/// The error for a path parameter that does not parse.
#[must_use]
pub fn paths() -> PathConfig {
    PathConfig::default().error_handler(|e: PathError, _| said("the path", &e).into())
}

/// The error for a query that does not parse.
#[must_use]
pub fn queries() -> QueryConfig {
    QueryConfig::default().error_handler(|e: QueryPayloadError, _| said("the query", &e).into())
}

/// The error for a part of a request that does not parse.
pub(super) fn said(what: &str, e: &impl std::fmt::Display) -> AppError {
    AppError::new(Code::Invalid, format!("{what}: {}", Foreign::new(&e.to_string(), 400)))
}
