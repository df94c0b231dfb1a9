//! Requests to the page of the audit log.

use super::view::{AuditPage, ROWS};
use crate::pages::page::{Page, Result, show};
use actix_web::web::{Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use fleeti_control::audit;
use fleeti_control::context::Context;
use serde::Deserialize;

/// Events that add entries to the log.
const EVENTS: &[&str] = &["device", "rollout", "build", "release", "profile"];

/// The query of the page: the number of the entry before which it ends.
#[derive(Deserialize)]
pub struct ListQuery {
    before: Option<u64>,
}

pub async fn list(
    cx: Data<Context>,
    request: HttpRequest,
    query: Query<ListQuery>,
) -> Result<HttpResponse> {
    let excerpt = audit::excerpt(&cx, query.before, ROWS).await?;
    show!(request, AuditPage::of(Page::new("/audit", &request, EVENTS), &excerpt))
}
