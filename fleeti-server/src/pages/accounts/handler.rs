//! Requests to the pages of accounts.

use super::form::{AccountForm, GrantForm, PasskeyForm, PasswordForm, TokenForm};
use super::view::{AccountPage, AccountsPage, OncePage};
use crate::access::By;
use crate::pages::page::{Page, Result, html, see, show};
use crate::pages::session::{origin, signed_in_at};
use actix_web::http::StatusCode;
use actix_web::web::{Data, Form, Path};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_control::accounts::{passkeys, people, sessions, sign_in, tokens};
use fleeti_control::context::Context;
use fleeti_core::id::AccountName;
use fleeti_core::wire::accounts::{CreateAccount, CreateToken, Grant};

fn page(request: &HttpRequest) -> Page {
    Page::new("/users", request, &[])
}

/// The own account.
pub async fn own(cx: Data<Context>, by: By, request: HttpRequest) -> Result<HttpResponse> {
    let details = people::own(&cx, &by).await?;
    let origin = passkeys::origin(&cx);
    show!(request, AccountPage::of(page(&request), details, true).with_passkeys_at(origin))
}

/// Ends a session of the own account.
pub async fn end_session(cx: Data<Context>, by: By, id: Path<String>) -> Result<HttpResponse> {
    sessions::end_own(&cx, &by, &id).await?;
    Ok(see("/account"))
}

/// Ends a session of any account.
pub async fn end_session_of(
    cx: Data<Context>,
    by: By,
    path: Path<(AccountName, String)>,
) -> Result<HttpResponse> {
    sessions::end_of(&cx, &by, &path.0, &path.1).await?;
    Ok(see(&format!("/users/{}", path.0)))
}

/// Ends all sessions of any account.
pub async fn end_sessions_of(
    cx: Data<Context>,
    by: By,
    name: Path<AccountName>,
) -> Result<HttpResponse> {
    sessions::end_all(&cx, &by, &name).await?;
    Ok(see(&format!("/users/{name}")))
}

/// Answers directly, without a redirect, so that the user cannot return to the token.
pub async fn add_token(
    cx: Data<Context>,
    by: By,
    request: HttpRequest,
    form: Form<TokenForm>,
) -> Result<HttpResponse> {
    let wanted = CreateToken::try_from(form.into_inner())?;
    let created = tokens::create(&cx, &by, &wanted).await?;
    Ok(html(StatusCode::OK, OncePage::token(page(&request), &created).render()))
}

pub async fn remove_token(cx: Data<Context>, by: By, id: Path<String>) -> Result<HttpResponse> {
    tokens::remove(&cx, &by, &id).await?;
    Ok(see("/account"))
}

/// What the script asks of the browser for a new passkey.
pub async fn passkey_options(cx: Data<Context>, by: By) -> Result<HttpResponse> {
    let options = passkeys::creation_options(&cx, &by).await?;
    Ok(HttpResponse::Ok().insert_header(("cache-control", "no-store")).json(options))
}

pub async fn add_passkey(
    cx: Data<Context>,
    by: By,
    form: Form<PasskeyForm>,
) -> Result<HttpResponse> {
    passkeys::add(&cx, &by, &form.parts()).await?;
    Ok(see("/account"))
}

pub async fn remove_passkey(cx: Data<Context>, by: By, id: Path<String>) -> Result<HttpResponse> {
    passkeys::remove(&cx, &by, &id).await?;
    Ok(see("/account"))
}

/// Removes a passkey of any account.
pub async fn remove_passkey_of(
    cx: Data<Context>,
    by: By,
    path: Path<(AccountName, String)>,
) -> Result<HttpResponse> {
    passkeys::remove(&cx, &by, &path.1).await?;
    Ok(see(&format!("/users/{}", path.0)))
}

/// Changes the own password. This browser gets a new session.
pub async fn set_password(
    cx: Data<Context>,
    by: By,
    request: HttpRequest,
    form: Form<PasswordForm>,
) -> Result<HttpResponse> {
    let passwords = (form.current.expose(), form.new.expose());
    let session = sign_in::change_password(&cx, &by, origin(&request)?, passwords).await?;
    signed_in_at(&request, "/account", &session)
}

pub async fn list(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse> {
    let accounts = people::list(&cx).await?;
    show!(request, AccountsPage::of(page(&request), &accounts))
}

/// Answers directly, without a redirect, so that the user cannot return to the link.
pub async fn add(
    cx: Data<Context>,
    by: By,
    request: HttpRequest,
    form: Form<AccountForm>,
) -> Result<HttpResponse> {
    let created = people::add(&cx, &by, &CreateAccount::try_from(form.into_inner())?).await?;
    let name = &created.account.name;
    Ok(match &created.link {
        Some(link) => html(StatusCode::OK, OncePage::link(page(&request), name, link).render()),
        None => see(&format!("/users/{name}")),
    })
}

pub async fn show(
    cx: Data<Context>,
    request: HttpRequest,
    name: Path<AccountName>,
) -> Result<HttpResponse> {
    let details = people::details(&cx, &name).await?;
    show!(request, AccountPage::of(page(&request), details, false))
}

pub async fn grant(
    cx: Data<Context>,
    by: By,
    name: Path<AccountName>,
    form: Form<GrantForm>,
) -> Result<HttpResponse> {
    people::grant(&cx, &by, &name, &Grant::try_from(form.into_inner())?).await?;
    Ok(see(&format!("/users/{name}")))
}

pub async fn ungrant(
    cx: Data<Context>,
    by: By,
    name: Path<AccountName>,
    form: Form<GrantForm>,
) -> Result<HttpResponse> {
    people::ungrant(&cx, &by, &name, &Grant::try_from(form.into_inner())?).await?;
    Ok(see(&format!("/users/{name}")))
}

pub async fn disable(cx: Data<Context>, by: By, name: Path<AccountName>) -> Result<HttpResponse> {
    people::disable(&cx, &by, &name).await?;
    Ok(see(&format!("/users/{name}")))
}

pub async fn enable(cx: Data<Context>, by: By, name: Path<AccountName>) -> Result<HttpResponse> {
    people::enable(&cx, &by, &name).await?;
    Ok(see(&format!("/users/{name}")))
}

pub async fn offboard(cx: Data<Context>, by: By, name: Path<AccountName>) -> Result<HttpResponse> {
    people::offboard(&cx, &by, &name).await?;
    Ok(see(&format!("/users/{name}")))
}

/// Answers directly, without a redirect, so that the user cannot return to the link.
pub async fn link(
    cx: Data<Context>,
    by: By,
    request: HttpRequest,
    name: Path<AccountName>,
) -> Result<HttpResponse> {
    let link = people::link(&cx, &by, &name).await?;
    Ok(html(StatusCode::OK, OncePage::link(page(&request), &name, &link).render()))
}
