//! Requests to the overview.

use super::view::OverviewPage;
use crate::access::By;
use crate::pages::page::{Page, Result, show};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use fleeti_control::context::Context;
use fleeti_control::overview;

/// Events that change the overview.
const EVENTS: &[&str] = &["device", "rollout", "build", "release", "alerts"];

pub async fn show(cx: Data<Context>, by: By, request: HttpRequest) -> Result<HttpResponse> {
    let overview = overview::get(&cx, &by).await?;
    show!(request, OverviewPage::of(Page::new("/", &request, EVENTS), &overview))
}
