//! Requests to sign in and out.

use super::cookie::{cookie, presented};
use super::view::SignInPage;
use crate::error::AppError;
use crate::pages::page::{Result, html, see};
use actix_web::http::StatusCode;
use actix_web::web::{Data, Form};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_control::context::Context;
use fleeti_control::logins;
use fleeti_control::logins::SESSION_S;
use fleeti_core::wire::problem::Code;
use serde::Deserialize;

/// The sign-in form.
#[derive(Deserialize)]
pub struct Credentials {
    token: String,
}

/// `GET /signin`.
pub async fn show() -> HttpResponse {
    html(StatusCode::OK, SignInPage::empty().render())
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
            Ok(html(StatusCode::UNAUTHORIZED, SignInPage::after(&e).render()))
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
