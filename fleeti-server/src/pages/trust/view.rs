//! The trust page: which intermediate CAs count, and how far a rotation has progressed.

use super::page::{Page, Result, show};
use super::view::{self, Badge};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_control::context::Context;
use fleeti_control::trust;
use fleeti_core::wire::api::{Intermediate, TrustStatus};

#[derive(Template)]
#[template(path = "trust.html", blocks = ["main"])]
struct Trust {
    page: Page,
    version: u64,
    devices: u64,
    devices_with_it: u64,
    list_ends: Option<String>,
    warnings: Vec<String>,
    intermediates: Vec<Row>,
}

struct Row {
    purpose: String,
    name: String,
    sha256: String,
    ends: String,
    state: Badge,
    has_key: bool,
}

impl From<Intermediate> for Row {
    fn from(i: Intermediate) -> Self {
        let state = if i.is_issuing {
            Badge::new("good", "issues certificates")
        } else {
            Badge::new("quiet", "trusted")
        };
        Self {
            purpose: i.purpose,
            name: i.name,
            sha256: i.certificate_sha256,
            ends: view::time(i.not_after_s),
            state,
            has_key: i.has_key,
        }
    }
}

pub async fn show(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse> {
    let TrustStatus { version, intermediates, devices, devices_with_it, root_crl_ends_s, warnings } =
        trust::status(&cx).await?;
    let intermediates = intermediates.into_iter().map(Row::from).collect();
    let list_ends = root_crl_ends_s.map(view::time);
    let page = Page::new("/trust", &request, &["device"]);
    show!(
        request,
        Trust { page, version, devices, devices_with_it, list_ends, warnings, intermediates }
    )
}
