//! Requests to the trust page.

use super::view::TrustPage;
use crate::pages::page::{Page, Result, show};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use fleeti_control::context::Context;
use fleeti_control::trust;

pub async fn show(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse> {
    let status = trust::status(&cx).await?;
    show!(request, TrustPage::of(Page::new("/trust", &request, &["device"]), status))
}
