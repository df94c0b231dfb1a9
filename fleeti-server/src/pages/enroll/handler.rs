//! Requests to the pages of enrollment.

use super::view::{EnrollPage, RecordPage};
use crate::access::By;
use crate::pages::page::{Page, Result, html, show};
use actix_web::http::StatusCode;
use actix_web::web::{Data, Form, Query};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_control::accounts::actor::Scope;
use fleeti_control::board;
use fleeti_control::context::Context;
use fleeti_control::enrollment::token;
use fleeti_control::ports::Addresses;
use fleeti_core::id::FleetId;
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::api::CreateEnrollment;
use serde::Deserialize;

/// What the page is opened with.
#[derive(Deserialize)]
pub struct EnrollQuery {
    fleet: Option<FleetId>,
    #[serde(default)]
    code: String,
}

pub async fn show(
    cx: Data<Context>,
    by: By,
    request: HttpRequest,
    query: Query<EnrollQuery>,
) -> Result<HttpResponse> {
    let EnrollQuery { fleet, code } = query.into_inner();
    let fleets = board::get(&cx, &by).await?.fleets;
    let may = |fleet: &FleetId| by.may(Permission::Enroll, Scope::Fleet(fleet));
    let names = fleets.into_iter().filter(|(f, _)| may(f)).map(|(f, _)| f.to_string()).collect();
    let page = Page::new("/devices", &request, &[]);
    show!(request, EnrollPage::of(page, fleet.map(|f| f.to_string()), code, names))
}

/// The form that creates a record.
#[derive(Deserialize)]
pub struct RecordForm {
    fleet: FleetId,
    hours: u32,
}

/// Answers directly, without a redirect, so that the user cannot return to the token.
pub async fn create(
    cx: Data<Context>,
    by: By,
    addresses: Data<Addresses>,
    request: HttpRequest,
    form: Form<RecordForm>,
) -> Result<HttpResponse> {
    by.authorize(Permission::Enroll, Scope::Fleet(&form.fleet))?;
    let wanted = CreateEnrollment { valid_s: form.hours.saturating_mul(3600) };
    let made = token::create(&cx, &by, &form.fleet, &wanted, &addresses).await?;
    let page = Page::new("/devices", &request, &[]);
    let shown = RecordPage::of(page, form.fleet.to_string(), &made)?;
    Ok(html(StatusCode::OK, shown.render()))
}
