//! Requests to the pages of builds, and the stream of a log while it grows.

use super::view::{BuildList, BuildPage, ROWS, log_event};
use crate::access::By;
use crate::pages::page::{Page, Result, see, show};
use crate::pages::session;
use crate::sse::{self, KEEP_ALIVE};
use actix_web::web::{Data, Form, Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use fleeti_control::builds::details;
use fleeti_control::builds::{self, BuildOf, approvals, logs};
use fleeti_control::context::Context;
use fleeti_core::id::{Line, Version};
use futures::StreamExt;
use serde::Deserialize;
use std::sync::Arc;

pub async fn list(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse> {
    let builds = builds::newest(&cx, ROWS).await?;
    show!(request, BuildList::of(Page::new("/builds", &request, &["build"]), &builds))
}

/// The form that queues a build.
#[derive(Deserialize)]
pub struct BuildForm {
    line: Line,
    revision: u32,
    version: Version,
    /// Present if the box is ticked.
    refresh_lock: Option<String>,
}

pub async fn create(cx: Data<Context>, by: By, form: Form<BuildForm>) -> Result<HttpResponse> {
    let BuildForm { line, revision, version, refresh_lock } = form.into_inner();
    let of = BuildOf { line, revision, version, refresh_lock: refresh_lock.is_some() };
    let build = builds::create_of(&cx, &by, of).await?;
    Ok(see(&format!("/builds/{}", build.id)))
}

pub async fn show(
    cx: Data<Context>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse> {
    let details = details::details(&cx, &id).await?;
    show!(request, BuildPage::of(Page::new("/builds", &request, &["build", "release"]), details))
}

pub async fn release(cx: Data<Context>, by: By, id: Path<String>) -> Result<HttpResponse> {
    approvals::sign_alone(&cx, &by, &id).await?;
    Ok(see(&format!("/builds/{id}")))
}

/// The query of a log: the byte offset from which it is sent.
#[derive(Deserialize)]
pub struct LogQuery {
    #[serde(default)]
    after: u64,
}

/// `GET /builds/{build}/log`: streams the log from a byte offset on, until the build ends.
pub async fn log(
    cx: Data<Context>,
    by: By,
    request: HttpRequest,
    id: Path<String>,
    query: Query<LogQuery>,
) -> Result<HttpResponse> {
    builds::get(&cx, &id).await?;
    let place = cx.streams.open(&by)?;
    let resumed = sse::last_event_id(&request).and_then(|id| id.parse().ok());
    let offset = resumed.unwrap_or(query.after);
    let session = session::of(&request);
    let log = logs::follow(Arc::clone(&cx), session, id.into_inner(), offset, KEEP_ALIVE);
    Ok(sse::response(place, log.map(|grown| [log_event(grown)])))
}
