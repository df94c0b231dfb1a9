//! Who may look: one administrator, by the token of the first start, in a cookie of twelve hours.

use super::page::{Result, html, see, wants_fragment};
use crate::app::AppRef;
use crate::error::AppError;
use crate::service::sessions::{self, SESSION_S};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::cookie::time::Duration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode, header};
use actix_web::middleware::Next;
use actix_web::web::{Data, Form};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_core::wire::problem::Code;
use serde::Deserialize;

const COOKIE: &str = "fleeti_session";

#[derive(Template)]
#[template(path = "signin.html")]
struct SignIn {
    problem: Option<String>,
}

/// The token that somebody signs in with.
#[derive(Deserialize)]
pub struct Credentials {
    token: String,
}

fn cookie(value: &str, age_s: u64) -> Cookie<'_> {
    Cookie::build(COOKIE, value)
        .path("/")
        .http_only(true)
        .same_site(SameSite::Strict)
        .max_age(Duration::seconds(i64::try_from(age_s).unwrap_or(0)))
        .finish()
}

/// `GET /signin`.
pub async fn ask() -> HttpResponse {
    html(StatusCode::OK, SignIn { problem: None }.render())
}

/// `POST /signin`.
pub async fn begin(app: Data<AppRef>, form: Form<Credentials>) -> Result<HttpResponse> {
    match sessions::begin(&app, &form.token).await {
        Ok(session) => {
            let mut response = see("/");
            response.add_cookie(&cookie(&session, SESSION_S)).map_err(AppError::internal)?;
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
pub async fn end(app: Data<AppRef>, request: HttpRequest) -> Result<HttpResponse> {
    if let Some(session) = request.cookie(COOKIE) {
        sessions::end(&app, session.value()).await?;
    }
    let mut response = see("/signin");
    response.add_cookie(&cookie("", 0)).map_err(AppError::internal)?;
    Ok(response)
}

/// The session's token of a request that was let through.
pub fn of(request: &HttpRequest) -> String {
    request.cookie(COOKIE).map_or_else(String::new, |c| c.value().to_owned())
}

/// Lets a request through that has a live session, and sends everybody else to sign in.
pub async fn signed_in(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> std::result::Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let live = match (request.app_data::<Data<AppRef>>(), request.cookie(COOKIE)) {
        (Some(app), Some(cookie)) => sessions::is_live(app, cookie.value()).await?,
        _ => false,
    };
    if live {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    let response = to_sign_in(request.request());
    Ok(request.into_response(response))
}

/// htmx follows a redirect into the middle of a page; a header tells it to leave the page.
fn to_sign_in(request: &HttpRequest) -> HttpResponse {
    if wants_fragment(request) { HttpResponse::Unauthorized().insert_header(("hx-redirect", "/signin")).finish() } else { see("/signin") }
}

/// Refuses a change that another site's page asks for. The cookie is `SameSite=Strict` already; a browser that
/// ignores that still says where a request comes from.
pub async fn same_origin(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> std::result::Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads || is_same_origin(&request) {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    let refused = AppError::new(Code::Forbidden, "this request comes from another site").hint("programs use the API under /api/v1");
    Err(super::page::Refused(refused).into())
}

fn is_same_origin(request: &ServiceRequest) -> bool {
    let text = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok());
    match text("sec-fetch-site") {
        Some(site) => site == "same-origin",
        None => {
            let host = text(header::HOST.as_str());
            let origin = text(header::ORIGIN.as_str()).and_then(|o| o.split_once("://"));
            origin.is_some_and(|(_, at)| Some(at) == host)
        }
    }
}
