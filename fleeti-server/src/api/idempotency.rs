//! `Idempotency-Key`: a client repeats a request after a broken connection, and it is done once
//! ([`fleeti_control::idempotency`]).

use super::Result;
use crate::error::AppError;
use crate::http::extract;
use actix_web::body::{BoxBody, MessageBody, to_bytes};
use actix_web::dev::{self, ServiceRequest, ServiceResponse};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpResponse, rt};
use fleeti_control::accounts::actor::Actor;
use fleeti_control::context::Context;
use fleeti_control::idempotency::{self, ANSWER_MAX, Answer, Begin, Begun, KEY_MAX};
use fleeti_core::wire::problem::Code;
use futures::stream;

/// The header of a key.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Marks an answer that was given before.
const REPLAYED: &str = "idempotency-replayed";
/// Requests that do nothing: they are processed each time.
const READS: [&str; 2] = ["/api/v1/rollout-plans", "/api/v1/profiles/check"];

/// Answers a request: one with a key is done once.
pub(super) async fn answer(
    cx: Data<Context>,
    by: Actor,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> std::result::Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let is_act = request.method() == Method::POST && !READS.contains(&request.path());
    match key(&request)?.filter(|_| is_act) {
        None => Ok(next.call(request).await?.map_into_boxed_body()),
        // In a task of its own: the answer is kept also if the client disconnects before it.
        Some(key) => rt::spawn(async move { once(&cx, (by, key), request, next).await })
            .await
            .map_err(AppError::internal)?,
    }
}

async fn once(
    cx: &Context,
    (by, key): (Actor, String),
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> std::result::Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let body = {
        let (head, payload) = request.parts_mut();
        extract::body(head, payload).await?
    };
    let same = same(&request, &body);
    let again = stream::once(async move { Ok(body) });
    request.set_payload(dev::Payload::Stream { payload: Box::pin(again) });
    match idempotency::begin(cx, &by, &key, &same).await.map_err(AppError::from)? {
        Begun::Again(answer) => Ok(request.into_response(replayed(answer)?)),
        Begun::New(begin) => {
            let response = begin.scope(next.call(request)).await?;
            keep(&begin, response).await
        }
    }
}

/// The key of a request: a string of structured fields (RFC 9651), or the same without quotation
/// marks.
fn key(request: &ServiceRequest) -> Result<Option<String>> {
    let mut all = request.headers().get_all(IDEMPOTENCY_KEY);
    let Some(sent) = all.next() else { return Ok(None) };
    let text = sent.to_str().unwrap_or_default();
    let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let key = quoted.unwrap_or(text);
    let is_good = (1..=KEY_MAX).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'))
        && all.next().is_none();
    if is_good {
        return Ok(Some(key.to_owned()));
    }
    let text = format!(
        "Idempotency-Key must be one text of 1 to {KEY_MAX} ASCII characters without spaces, quotation marks and backslashes"
    );
    Err(AppError::new(Code::Malformed, text))
}

/// What makes two requests the same.
fn same(request: &ServiceRequest, body: &Bytes) -> Vec<u8> {
    let expected = request.headers().get("if-match").map_or(&b""[..], HeaderValue::as_bytes);
    let (method, address) = (request.method().as_str(), request.uri().to_string());
    [method.as_bytes(), address.as_bytes(), expected, body.as_ref()].join(&b'\n')
}

fn replayed(answer: Answer) -> Result<HttpResponse> {
    let status = StatusCode::from_u16(answer.status).map_err(AppError::internal)?;
    let mut response = HttpResponse::build(status);
    response.insert_header((REPLAYED, "true"));
    if !answer.kind.is_empty() {
        response.insert_header((CONTENT_TYPE, answer.kind));
    }
    Ok(response.body(answer.body))
}

/// Keeps the answer of a request.
async fn keep(
    begin: &Begin<'_>,
    response: ServiceResponse<impl MessageBody>,
) -> std::result::Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let (request, response) = response.into_parts();
    let (response, body) = response.into_parts();
    let body = to_bytes(body).await.map_err(|e| AppError::internal(e.into().to_string()))?;
    let kept = kept(&response, &body);
    // What was done is done: the client gets its answer in any case.
    if let Err(e) = begin.answered(response.status().is_success(), kept.as_ref()).await {
        tracing::error!("an answer is not kept for a repetition: {}", e.for_log());
    }
    Ok(ServiceResponse::new(request, response.set_body(BoxBody::new(body))))
}

/// What is kept of an answer; `None` for one that must not be stored, is too large, or is not final.
fn kept(response: &HttpResponse<()>, body: &Bytes) -> Option<Answer> {
    let headers = response.headers();
    let is_secret = headers.get(CACHE_CONTROL).is_some_and(|value| value == "no-store");
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let text = std::str::from_utf8(body).ok().filter(|body| body.len() <= ANSWER_MAX)?;
    // A failure of the server is not the end: what was begun may be done in part.
    let is_final = !response.status().is_server_error();
    (!is_secret && is_final).then(|| Answer {
        status: response.status().as_u16(),
        kind: kind.to_owned(),
        body: text.to_owned(),
    })
}
