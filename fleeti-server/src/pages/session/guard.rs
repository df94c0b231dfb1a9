//! Lets only requests of a live session through, and only changes that a page of this server
//! requests.

use super::cookie::presented;
use crate::access::Needed;
use crate::error::AppError;
use crate::pages::page::{Refused, missing, see, wants_fragment};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, header};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage, HttpRequest, HttpResponse, ResponseError};
use fleeti_control::accounts::actor::Actor;
use fleeti_control::accounts::sessions;
use fleeti_control::context::Context;
use fleeti_core::wire::problem::Code;

/// Passes on requests of a live session whose account has what the route needs. Redirects requests
/// without a session to the sign-in page.
pub async fn signed_in(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let cx = request.app_data::<Data<Context>>().cloned();
    let cx = cx.ok_or_else(|| AppError::internal("a route without a server"))?;
    let Some(by) = actor(&cx, request.request()).await? else {
        let response = to_sign_in(request.request());
        return Ok(request.into_response(response));
    };
    let needed = Needed::of_page(&request).ok_or_else(missing)?;
    if let Err(e) = needed.check(&cx, &by).await {
        let response = Refused(e).error_response();
        return Ok(request.into_response(response));
    }
    request.extensions_mut().insert(by);
    Ok(next.call(request).await?.map_into_boxed_body())
}

/// Who sends a request, by its session.
async fn actor(cx: &Context, request: &HttpRequest) -> Result<Option<Actor>, AppError> {
    match presented(request) {
        Some(cookie) => Ok(sessions::actor(cx, cookie.value()).await?),
        None => Ok(None),
    }
}

/// htmx would swap a redirect's target into the page. `hx-redirect` makes it leave the page.
fn to_sign_in(request: &HttpRequest) -> HttpResponse {
    if wants_fragment(request) {
        HttpResponse::Unauthorized().insert_header(("hx-redirect", "/signin")).finish()
    } else {
        see("/signin")
    }
}

/// Refuses changes that a page of another site requests (CSRF). The cookie is `SameSite=Strict`
/// already; a browser that ignores that still sends the origin of a request.
pub async fn same_origin(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads || is_same_origin(&request) {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    let refused = AppError::new(Code::Forbidden, "cross-site request refused")
        .hint("scripts must use the API under /api/v1");
    Err(Refused(refused).into())
}

fn is_same_origin(request: &ServiceRequest) -> bool {
    let text = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok());
    match text("sec-fetch-site") {
        Some(site) => site == "same-origin",
        None => {
            let host = text(header::HOST.as_str());
            let origin = text(header::ORIGIN.as_str()).and_then(|o| o.split_once("://"));
            let is_scheme = |scheme: &str| {
                scheme == "https" || (scheme == "http" && !request.app_config().secure())
            };
            origin.is_some_and(|(scheme, at)| is_scheme(scheme) && Some(at) == host)
        }
    }
}
