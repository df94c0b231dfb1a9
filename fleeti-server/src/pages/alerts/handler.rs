//! Requests to the pages of alerts.

use super::form::{EmailForm, NoteForm, RuleForm, SilenceForm};
use super::view::{AlertPage, AlertsPage, ROWS, ReceiverPage};
use crate::access::By;
use crate::pages::page::{Page, Result, see, show};
use actix_web::web::{Data, Form, Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use fleeti_control::context::Context;
use fleeti_control::precondition::Expected;
use fleeti_control::{alerts, details, email};
use fleeti_core::id::FleetId;
use fleeti_core::wire::alerts::{AlertQuery, SetRule};
use serde::Deserialize;

/// The query of the list of alerts.
#[derive(Deserialize)]
pub struct ListQuery {
    fleet: Option<FleetId>,
    all: Option<String>,
    after: Option<String>,
}

pub async fn list(
    cx: Data<Context>,
    by: By,
    request: HttpRequest,
    query: Query<ListQuery>,
) -> Result<HttpResponse> {
    let ListQuery { fleet, all, after } = query.into_inner();
    let query = AlertQuery { all: all.is_some(), fleet, after, limit: Some(ROWS) };
    let found = details::alerts(&cx, &by, &query).await?;
    show!(request, AlertsPage::of(Page::new("/alerts", &request, &["alerts"]), &query, &found))
}

pub async fn show(
    cx: Data<Context>,
    by: By,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse> {
    let details = alerts::get(&cx, &by, &id).await?;
    show!(request, AlertPage::of(Page::new("/alerts", &request, &["alerts"]), &details))
}

pub async fn acknowledge(
    cx: Data<Context>,
    by: By,
    id: Path<String>,
    form: Form<NoteForm>,
) -> Result<HttpResponse> {
    alerts::acknowledge(&cx, &by, &id, &form.note).await?;
    Ok(see(&format!("/alerts/{id}")))
}

pub async fn set_rule(
    cx: Data<Context>,
    by: By,
    id: Path<String>,
    form: Form<RuleForm>,
) -> Result<HttpResponse> {
    let expected = Expected::of_form(&form.etag);
    let rule = SetRule::try_from(form.into_inner())?.rule(&id);
    alerts::set_rule(&cx, &by, rule, &expected).await?;
    Ok(see("/alerts"))
}

pub async fn reset_rule(cx: Data<Context>, by: By, id: Path<String>) -> Result<HttpResponse> {
    alerts::remove_rule(&cx, &by, &id).await?;
    Ok(see("/alerts"))
}

pub async fn add_silence(
    cx: Data<Context>,
    by: By,
    form: Form<SilenceForm>,
) -> Result<HttpResponse> {
    let request = form.into_inner().request(cx.now_s())?;
    alerts::add_silence(&cx, &by, &request).await?;
    Ok(see("/alerts"))
}

pub async fn remove_silence(cx: Data<Context>, by: By, id: Path<String>) -> Result<HttpResponse> {
    alerts::remove_silence(&cx, &by, &id).await?;
    Ok(see("/alerts"))
}

pub async fn add_receiver(
    cx: Data<Context>,
    by: By,
    form: Form<EmailForm>,
) -> Result<HttpResponse> {
    email::add(&cx, &by, &form.into_inner().request()?).await?;
    Ok(see("/alerts"))
}

pub async fn show_receiver(
    cx: Data<Context>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse> {
    let found = email::get(&cx, &id).await?;
    show!(request, ReceiverPage::of(Page::new("/alerts", &request, &[]), found))
}

pub async fn remove_receiver(cx: Data<Context>, by: By, id: Path<String>) -> Result<HttpResponse> {
    email::remove(&cx, &by, &id).await?;
    Ok(see("/alerts"))
}

pub async fn enable_receiver(cx: Data<Context>, by: By, id: Path<String>) -> Result<HttpResponse> {
    email::set_enabled(&cx, &by, &id, true).await?;
    Ok(see("/alerts"))
}

pub async fn disable_receiver(cx: Data<Context>, by: By, id: Path<String>) -> Result<HttpResponse> {
    email::set_enabled(&cx, &by, &id, false).await?;
    Ok(see("/alerts"))
}

pub async fn test_receiver(cx: Data<Context>, by: By, id: Path<String>) -> Result<HttpResponse> {
    email::test(&cx, &by, &id).await?;
    Ok(see("/alerts"))
}
