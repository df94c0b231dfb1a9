//! Requests to the pages of webhooks.

use super::view::{AddedPage, WebhookPage, WebhooksPage};
use crate::access::By;
use crate::pages::page::{Page, Result, html, see, show};
use actix_web::http::StatusCode;
use actix_web::web::{Data, Form, Path};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_control::context::Context;
use fleeti_control::webhooks;
use fleeti_core::wire::webhook::CreateWebhook;

pub async fn list(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse> {
    let found = webhooks::with_newest(&cx).await?;
    show!(request, WebhooksPage::of(Page::new("/alerts", &request, &[]), &found))
}

/// Answers directly, without a redirect: the secret is shown once.
pub async fn add(
    cx: Data<Context>,
    by: By,
    request: HttpRequest,
    form: Form<Vec<(String, String)>>,
) -> Result<HttpResponse> {
    let added = webhooks::add(&cx, &by, &read(form.into_inner())).await?;
    let page = Page::new("/alerts", &request, &[]);
    Ok(html(StatusCode::OK, AddedPage::of(page, &added).render()))
}

/// The form: an address, and a field `events` for each chosen event.
fn read(fields: Vec<(String, String)>) -> CreateWebhook {
    let mut request = CreateWebhook { url: String::new(), events: Vec::new() };
    for (name, value) in fields {
        match name.as_str() {
            "url" => value.trim().clone_into(&mut request.url),
            "events" => request.events.push(value),
            _ => {}
        }
    }
    request
}

pub async fn show(
    cx: Data<Context>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse> {
    let (webhook, deliveries) = webhooks::get(&cx, &id).await?;
    let page = Page::new("/alerts", &request, &[]);
    show!(request, WebhookPage::of(page, &webhook, &deliveries))
}

pub async fn test(cx: Data<Context>, by: By, id: Path<String>) -> Result<HttpResponse> {
    webhooks::test(&cx, &by, &id).await?;
    Ok(see(&format!("/webhooks/{id}")))
}

pub async fn remove(cx: Data<Context>, by: By, id: Path<String>) -> Result<HttpResponse> {
    webhooks::remove(&cx, &by, &id).await?;
    Ok(see("/webhooks"))
}
