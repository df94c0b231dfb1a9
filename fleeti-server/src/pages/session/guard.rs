//! Login sessions: one administrator signs in with the token of the first start. A cookie lasts 12
//! h.

use super::page::{Result, html, see, wants_fragment};
use crate::error::AppError;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::cookie::time::Duration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode, header};
use actix_web::middleware::Next;
use actix_web::web::{Data, Form};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_control::context::Context;
use fleeti_control::logins;
use fleeti_control::logins::SESSION_S;
use fleeti_core::wire::problem::Code;
use serde::Deserialize;

/// Name of the cookie over plain HTTP, which is for loopback.
const COOKIE: &str = "fleeti_session";
/// Name of the cookie over TLS. A browser accepts it only with `Secure`, `Path=/` and no domain, so
/// no other host and no plain-HTTP response can set it (RFC 6265bis, 4.1.3.2).
const HOST_COOKIE: &str = "__Host-fleeti_session";

#[derive(Template)]
#[template(path = "signin.html")]
struct SignIn {
    problem: Option<String>,
}

/// The sign-in form.
#[derive(Deserialize)]
pub struct Credentials {
    token: String,
}

fn cookie<'a>(request: &HttpRequest, value: &'a str, age_s: u64) -> Cookie<'a> {
    let is_secure = is_over_tls(request);
    Cookie::build(if is_secure { HOST_COOKIE } else { COOKIE }, value)
        .path("/")
        .secure(is_secure)
        .http_only(true)
        .same_site(SameSite::Strict)
        .max_age(Duration::seconds(i64::try_from(age_s).unwrap_or(0)))
        .finish()
}

/// Whether the browser uses TLS: to this server, or to a proxy in front of it, which shows in the
/// origin of a form.
fn is_over_tls(request: &HttpRequest) -> bool {
    let origin = request.headers().get(header::ORIGIN).and_then(|v| v.to_str().ok());
    request.app_config().secure()
        || origin.is_some_and(|o| o.starts_with("https://"))
        || request.cookie(HOST_COOKIE).is_some()
}

/// The session's cookie. If this server terminates TLS, only the `__Host-` cookie counts, which no
/// other host can set. Otherwise there may be a proxy, and both names count.
fn presented(request: &HttpRequest) -> Option<Cookie<'static>> {
    let plain = || if request.app_config().secure() { None } else { request.cookie(COOKIE) };
    request.cookie(HOST_COOKIE).or_else(plain)
}

/// `GET /signin`.
pub async fn ask() -> HttpResponse {
    html(StatusCode::OK, SignIn { problem: None }.render())
}

/// `POST /signin`.
pub async fn begin(
    cx: Data<Context>,
    request: HttpRequest,
    form: Form<Credentials>,
) -> Result<HttpResponse> {
    match logins::begin(&cx, &form.token).await {
        Ok(session) => {
            let mut response = see("/");
            response
                .add_cookie(&cookie(&request, &session, SESSION_S))
                .map_err(AppError::internal)?;
            Ok(response)
        }
        Err(e) if e.code() == Code::Unauthenticated => {
            let hint = e.what_to_do().unwrap_or_default();
            let page = SignIn { problem: Some(format!("{e}: {hint}")) };
            Ok(html(StatusCode::UNAUTHORIZED, page.render()))
        }
        Err(e) => Err(e.into()),
    }
}

/// `POST /signout`.
pub async fn end(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse> {
    if let Some(session) = presented(&request) {
        logins::end(&cx, session.value()).await?;
    }
    let mut response = see("/signin");
    response.add_cookie(&cookie(&request, "", 0)).map_err(AppError::internal)?;
    Ok(response)
}

/// The session token of an authenticated request.
pub fn of(request: &HttpRequest) -> String {
    presented(request).map_or_else(String::new, |c| c.value().to_owned())
}

/// Passes on requests with a live session, and redirects all others to the sign-in page.
pub async fn signed_in(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> std::result::Result<ServiceResponse<BoxBody>, actix_web::Error> {
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
) -> std::result::Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads || is_same_origin(&request) {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    let refused = AppError::new(Code::Forbidden, "cross-site request refused")
        .hint("scripts must use the API under /api/v1");
    Err(super::page::Refused(refused).into())
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
