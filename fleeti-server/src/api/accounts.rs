//! Accounts, API tokens and login sessions under `/api/v1`.

use crate::access::By;
use crate::error::AppError;
use crate::http::extract::Json;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, Responder, delete, get, post};
use fleeti_control::accounts::{passkeys, people, sessions, tokens};
use fleeti_control::context::Context;
use fleeti_core::id::AccountName;
use fleeti_core::wire::accounts::{
    Account, AccountDetails, ApiToken, CreateAccount, CreateToken, CreatedAccount, CreatedToken,
    Grant, LoginSession, Me, Passkey, PasswordLink,
};

type Result<T> = std::result::Result<T, AppError>;

/// Get the account and credential of this request, and what they permit.
#[utoipa::path(tag = "accounts", responses((status = 200, description = "Account and credential", body = Me)))]
#[get("/me")]
pub async fn get_me(by: By) -> Result<impl Responder> {
    Ok(Json(by.me()?))
}

/// List the login sessions of the own account.
#[utoipa::path(tag = "accounts", responses((status = 200, description = "Sessions, oldest first", body = Vec<LoginSession>)))]
#[get("/sessions")]
pub async fn list_sessions(cx: Data<Context>, by: By) -> Result<impl Responder> {
    Ok(Json(sessions::own(&cx, &by).await?))
}

/// End a login session of the own account.
#[utoipa::path(tag = "accounts", responses((status = 200, description = "The remaining sessions", body = Vec<LoginSession>)))]
#[delete("/sessions/{session}")]
pub async fn end_session(
    cx: Data<Context>,
    by: By,
    session: Path<String>,
) -> Result<impl Responder> {
    sessions::end_own(&cx, &by, &session).await?;
    Ok(Json(sessions::own(&cx, &by).await?))
}

/// List the passkeys of the own account. They are added on the page of the account.
#[utoipa::path(tag = "accounts", responses((status = 200, description = "Passkeys, oldest first", body = Vec<Passkey>)))]
#[get("/passkeys")]
pub async fn list_passkeys(cx: Data<Context>, by: By) -> Result<impl Responder> {
    Ok(Json(passkeys::own(&cx, &by).await?))
}

/// Remove a passkey of the own account or, as an administrator, of any account. The login sessions
/// that it began end.
#[utoipa::path(tag = "accounts", responses((status = 204, description = "The passkey is no longer accepted")))]
#[delete("/passkeys/{passkey}")]
pub async fn remove_passkey(
    cx: Data<Context>,
    by: By,
    passkey: Path<String>,
) -> Result<impl Responder> {
    passkeys::remove(&cx, &by, &passkey).await?;
    Ok(HttpResponse::NoContent())
}

/// List the API tokens of the own account.
#[utoipa::path(tag = "accounts", responses((status = 200, description = "Tokens, oldest first", body = Vec<ApiToken>)))]
#[get("/tokens")]
pub async fn list_tokens(cx: Data<Context>, by: By) -> Result<impl Responder> {
    Ok(Json(tokens::own(&cx, &by).await?))
}

/// Create an API token of the own account or, as an administrator, of a service account. Only this
/// response contains it.
#[utoipa::path(tag = "accounts", responses((status = 201, description = "The token", body = CreatedToken)))]
#[post("/tokens")]
pub async fn create_token(
    cx: Data<Context>,
    by: By,
    body: Json<CreateToken>,
) -> Result<impl Responder> {
    let created = tokens::create(&cx, &by, &body).await?;
    Ok(HttpResponse::Created().insert_header(("cache-control", "no-store")).json(created))
}

/// Remove an API token of the own account or, as an administrator, of any account.
#[utoipa::path(tag = "accounts", responses((status = 204, description = "The token is no longer valid")))]
#[delete("/tokens/{token}")]
pub async fn remove_token(
    cx: Data<Context>,
    by: By,
    token: Path<String>,
) -> Result<impl Responder> {
    tokens::remove(&cx, &by, &token).await?;
    Ok(HttpResponse::NoContent())
}

/// List accounts.
#[utoipa::path(tag = "accounts", responses((status = 200, description = "Accounts, ordered by name", body = Vec<Account>)))]
#[get("/accounts")]
pub async fn list_accounts(cx: Data<Context>) -> Result<impl Responder> {
    Ok(Json(people::list(&cx).await?))
}

/// Add an account. For a person, the response contains a one-time link that sets the password.
#[utoipa::path(tag = "accounts", responses((status = 201, description = "The account", body = CreatedAccount)))]
#[post("/accounts")]
pub async fn add_account(
    cx: Data<Context>,
    by: By,
    body: Json<CreateAccount>,
) -> Result<impl Responder> {
    let created = people::add(&cx, &by, &body).await?;
    Ok(HttpResponse::Created().insert_header(("cache-control", "no-store")).json(created))
}

/// Get an account, with everything that accepts its holder.
#[utoipa::path(tag = "accounts", responses((status = 200, description = "The account", body = AccountDetails)))]
#[get("/accounts/{account}")]
pub async fn get_account(cx: Data<Context>, account: Path<AccountName>) -> Result<impl Responder> {
    Ok(Json(people::details(&cx, &account).await?))
}

/// Give an account a role.
#[utoipa::path(tag = "accounts", responses((status = 200, description = "The account", body = Account)))]
#[post("/accounts/{account}/grants")]
pub async fn grant_role(
    cx: Data<Context>,
    by: By,
    account: Path<AccountName>,
    body: Json<Grant>,
) -> Result<impl Responder> {
    Ok(Json(people::grant(&cx, &by, &account, &body).await?))
}

/// Take a role from an account.
#[utoipa::path(tag = "accounts", responses((status = 200, description = "The account", body = Account)))]
#[post("/accounts/{account}/grants/remove")]
pub async fn remove_role(
    cx: Data<Context>,
    by: By,
    account: Path<AccountName>,
    body: Json<Grant>,
) -> Result<impl Responder> {
    Ok(Json(people::ungrant(&cx, &by, &account, &body).await?))
}

/// Disable an account. Its login sessions end, and its API tokens do not count.
#[utoipa::path(tag = "accounts", responses((status = 200, description = "The account", body = Account)))]
#[post("/accounts/{account}/disable")]
pub async fn disable_account(
    cx: Data<Context>,
    by: By,
    account: Path<AccountName>,
) -> Result<impl Responder> {
    Ok(Json(people::disable(&cx, &by, &account).await?))
}

/// Enable a disabled account.
#[utoipa::path(tag = "accounts", responses((status = 200, description = "The account", body = Account)))]
#[post("/accounts/{account}/enable")]
pub async fn enable_account(
    cx: Data<Context>,
    by: By,
    account: Path<AccountName>,
) -> Result<impl Responder> {
    Ok(Json(people::enable(&cx, &by, &account).await?))
}

/// End everything of an account that the server can end: its roles, password, passkeys, login
/// sessions, API tokens, link, and the enrollment tokens that no device has used.
#[utoipa::path(tag = "accounts", responses((status = 200, description = "The account, and what may still accept the person", body = AccountDetails)))]
#[post("/accounts/{account}/offboard")]
pub async fn offboard_account(
    cx: Data<Context>,
    by: By,
    account: Path<AccountName>,
) -> Result<impl Responder> {
    Ok(Json(people::offboard(&cx, &by, &account).await?))
}

/// Make a one-time link with which a person sets a new password. An earlier link no longer counts.
/// Only this response contains it.
#[utoipa::path(tag = "accounts", responses((status = 201, description = "The link", body = PasswordLink)))]
#[post("/accounts/{account}/link")]
pub async fn create_link(
    cx: Data<Context>,
    by: By,
    account: Path<AccountName>,
) -> Result<impl Responder> {
    let link = people::link(&cx, &by, &account).await?;
    Ok(HttpResponse::Created().insert_header(("cache-control", "no-store")).json(link))
}

/// List the login sessions of an account.
#[utoipa::path(tag = "accounts", responses((status = 200, description = "Sessions, oldest first", body = Vec<LoginSession>)))]
#[get("/accounts/{account}/sessions")]
pub async fn list_account_sessions(
    cx: Data<Context>,
    account: Path<AccountName>,
) -> Result<impl Responder> {
    Ok(Json(people::details(&cx, &account).await?.sessions))
}

/// End all login sessions of an account.
#[utoipa::path(tag = "accounts", responses((status = 204, description = "They have ended")))]
#[delete("/accounts/{account}/sessions")]
pub async fn end_account_sessions(
    cx: Data<Context>,
    by: By,
    account: Path<AccountName>,
) -> Result<impl Responder> {
    sessions::end_all(&cx, &by, &account).await?;
    Ok(HttpResponse::NoContent())
}

/// End a login session of an account.
#[utoipa::path(tag = "accounts", responses((status = 204, description = "It has ended")))]
#[delete("/accounts/{account}/sessions/{session}")]
pub async fn end_account_session(
    cx: Data<Context>,
    by: By,
    path: Path<(AccountName, String)>,
) -> Result<impl Responder> {
    sessions::end_of(&cx, &by, &path.0, &path.1).await?;
    Ok(HttpResponse::NoContent())
}
