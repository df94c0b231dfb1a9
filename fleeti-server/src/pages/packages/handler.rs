//! Requests to the page of packages.

use super::view::{PackagePage, ROWS};
use crate::access::By;
use crate::pages::page::{Page, Result, show};
use actix_web::web::{Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use fleeti_control::context::Context;
use fleeti_control::packages::{self, Question};
use serde::Deserialize;

/// The query of the page.
#[derive(Deserialize)]
pub struct PackageQuery {
    #[serde(default)]
    q: String,
    #[serde(default)]
    after: String,
}

pub async fn find(
    cx: Data<Context>,
    by: By,
    request: HttpRequest,
    query: Query<PackageQuery>,
) -> Result<HttpResponse> {
    let PackageQuery { q: query, after } = query.into_inner();
    let page = Page::new("/devices", &request, &["release"]);
    if query.trim().is_empty() {
        return show!(request, PackagePage::empty(page));
    }
    let question = Question { query, after, limit: ROWS };
    show!(request, PackagePage::of(page, packages::devices(&cx, &by, &question).await?))
}
