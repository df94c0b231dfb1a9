//! Requests to sign in and out, and the page of a one-time link.

use super::cookie::{ceremony, cookie, presented, presented_ceremony};
use super::view::{JoinPage, SignInPage};
use crate::access::By;
use crate::error::AppError;
use crate::pages::page::{Result, html, see};
use actix_web::http::StatusCode;
use actix_web::web::{Data, Form, Path};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_control::accounts::challenges::CHALLENGE_S;
use fleeti_control::accounts::sessions::SESSION_S;
use fleeti_control::accounts::{by_passkey, links, passkeys, sessions, sign_in};
use fleeti_control::context::Context;
use fleeti_control::places::Origin;
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::problem::Code;
use serde::Deserialize;
use std::net::IpAddr;

/// The sign-in form: a name with a password, or the token of the first start.
#[derive(Deserialize)]
pub struct Credentials {
    #[serde(default)]
    name: String,
    password: Option<Secret>,
    token: Option<Secret>,
}

/// The address that attempts are counted by. A proxy on this machine says whom it serves, last in the
/// header; nobody else is believed.
pub fn origin(request: &HttpRequest) -> Result<Origin> {
    let peer = request.peer_addr().map(|address| address.ip());
    let peer = peer.ok_or_else(|| AppError::internal("a connection without an address"))?;
    let last = request.headers().get_all("x-forwarded-for").next_back();
    let last = last.and_then(|value| value.to_str().ok()?.rsplit(',').next());
    let served = last.and_then(|text| text.trim().parse::<IpAddr>().ok());
    Ok(Origin::from(served.filter(|_| peer.is_loopback()).unwrap_or(peer)))
}

/// A redirect that begins a session in this browser.
pub fn signed_in_at(request: &HttpRequest, path: &str, session: &str) -> Result<HttpResponse> {
    let mut response = see(path);
    response.add_cookie(&cookie(request, session, SESSION_S)).map_err(AppError::internal)?;
    Ok(response)
}

/// `GET /signin`.
pub async fn show(cx: Data<Context>) -> HttpResponse {
    html(StatusCode::OK, SignInPage::of(passkeys::origin(&cx)).render())
}

/// `POST /signin`.
pub async fn begin(
    cx: Data<Context>,
    request: HttpRequest,
    form: Form<Credentials>,
) -> Result<HttpResponse> {
    let begun = match (&form.token, &form.password) {
        (Some(token), _) => sign_in::with_token(&cx, token.expose()).await,
        (None, password) => {
            let password = password.as_ref().map_or("", Secret::expose);
            sign_in::with_password(&cx, origin(&request)?, &form.name, password).await
        }
    };
    match begun {
        Ok(session) => signed_in_at(&request, "/", &session),
        Err(e) if e.code() == Code::Unauthenticated => {
            let page = SignInPage::of(passkeys::origin(&cx)).after(&e);
            Ok(html(StatusCode::UNAUTHORIZED, page.render()))
        }
        Err(e) => Err(e.into()),
    }
}

/// `POST /signin/passkey/options`: what the script asks of the browser. The cookie ties the answer to
/// this browser.
pub async fn passkey_options(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse> {
    let browser = hex::encode(rand::random::<[u8; 32]>());
    let options = by_passkey::request_options(&cx, &browser)?;
    let mut response =
        HttpResponse::Ok().insert_header(("cache-control", "no-store")).json(options);
    let cookie = ceremony(&request, &browser, CHALLENGE_S);
    response.add_cookie(&cookie).map_err(AppError::internal)?;
    Ok(response)
}

/// The answer of a browser and its authenticator, base64url.
#[derive(Deserialize)]
pub struct PasskeyAnswer {
    credential: String,
    user: String,
    client_data: String,
    authenticator_data: String,
    signature: String,
}

impl PasskeyAnswer {
    fn parts(&self) -> by_passkey::Answer<'_> {
        by_passkey::Answer {
            credential: &self.credential,
            user: &self.user,
            client_data: &self.client_data,
            authenticator_data: &self.authenticator_data,
            signature: &self.signature,
        }
    }
}

/// `POST /signin/passkey`.
pub async fn begin_by_passkey(
    cx: Data<Context>,
    request: HttpRequest,
    form: Form<PasskeyAnswer>,
) -> Result<HttpResponse> {
    let browser = presented_ceremony(&request).unwrap_or_default();
    match by_passkey::with_passkey(&cx, origin(&request)?, &browser, &form.parts()).await {
        Ok(session) => {
            let mut response = signed_in_at(&request, "/", &session)?;
            response.add_cookie(&ceremony(&request, "", 0)).map_err(AppError::internal)?;
            Ok(response)
        }
        Err(e) if e.code() == Code::Unauthenticated => {
            let page = SignInPage::of(passkeys::origin(&cx)).after(&e);
            Ok(html(StatusCode::UNAUTHORIZED, page.render()))
        }
        Err(e) => Err(e.into()),
    }
}

/// `POST /signout`.
pub async fn end(cx: Data<Context>, by: By, request: HttpRequest) -> Result<HttpResponse> {
    if let Some(session) = presented(&request) {
        sessions::end(&cx, &by, session.value()).await?;
    }
    let mut response = see("/signin");
    response.add_cookie(&cookie(&request, "", 0)).map_err(AppError::internal)?;
    Ok(response)
}

/// `GET /join/{token}`: the page of a one-time link.
pub async fn show_link(cx: Data<Context>, token: Path<String>) -> Result<HttpResponse> {
    let account = links::of(&cx, &token).await?;
    Ok(html(StatusCode::OK, JoinPage::of(&token, account.as_ref()).render()))
}

/// The form of a one-time link.
#[derive(Deserialize)]
pub struct Joining {
    #[serde(default)]
    name: String,
    password: Secret,
}

/// `POST /join/{token}`.
pub async fn join(
    cx: Data<Context>,
    request: HttpRequest,
    token: Path<String>,
    form: Form<Joining>,
) -> Result<HttpResponse> {
    let (name, password) = (form.name.trim().parse().ok(), form.password.expose());
    match links::redeem(&cx, origin(&request)?, &token, (name, password)).await {
        Ok(session) => signed_in_at(&request, "/", &session),
        Err(e) if matches!(e.code(), Code::Invalid | Code::Conflict) => {
            let account = links::of(&cx, &token).await?;
            let page = JoinPage::of(&token, account.as_ref()).after(&e);
            Ok(html(StatusCode::UNPROCESSABLE_ENTITY, page.render()))
        }
        Err(e) => Err(e.into()),
    }
}
