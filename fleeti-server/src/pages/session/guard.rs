//! Lets only requests of a live session through, and only changes that a page of this server
//! requests.

use super::cookie::presented;
use crate::error::AppError;
use crate::pages::page::{Refused, see, wants_fragment};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, header};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpRequest, HttpResponse};
use fleeti_control::context::Context;
use fleeti_control::logins;
use fleeti_core::wire::problem::Code;

/// Passes on requests with a live session, and redirects all others to the sign-in page.
pub async fn signed_in(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let live = match (request.app_data::<Data<Context>>(), presented(request.request())) {
        (Some(cx), Some(cookie)) => {
            logins::is_live(cx, cookie.value()).await.map_err(AppError::from)?
        }
        _ => false,
    };
    if live {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    let response = to_sign_in(request.request());
    Ok(request.into_response(response))
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
