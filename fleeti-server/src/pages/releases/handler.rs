//! Requests to the pages of releases.

use super::view::{ROWS, ReleaseList, ReleasePage};
use crate::access::By;
use crate::http::whole_file;
use crate::pages::page::{Page, Result, see, show};
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use fleeti_control::context::Context;
use fleeti_control::evidence;
use fleeti_control::releases;
use fleeti_control::releases::revoke;
use fleeti_core::id::ReleaseName;

pub async fn list(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse> {
    let releases = releases::newest(&cx, ROWS).await?;
    show!(request, ReleaseList::of(Page::new("/releases", &request, &["release"]), &releases))
}

pub async fn show(
    cx: Data<Context>,
    request: HttpRequest,
    name: Path<ReleaseName>,
) -> Result<HttpResponse> {
    let details = releases::details(&cx, &name).await?;
    show!(request, ReleasePage::of(Page::new("/releases", &request, &["release"]), details))
}

pub async fn file(cx: Data<Context>, path: Path<(ReleaseName, String)>) -> Result<HttpResponse> {
    let file = releases::document(&cx, &path.0, &path.1).await?;
    Ok(whole_file::respond(&file).await?)
}

/// The evidence, as a file of JSON.
pub async fn evidence(cx: Data<Context>, by: By, name: Path<ReleaseName>) -> Result<HttpResponse> {
    let found = evidence::of_release(&cx, &by, &name).await?;
    let file = format!("attachment; filename=\"{name}-evidence.json\"");
    Ok(HttpResponse::Ok().insert_header(("content-disposition", file)).json(found))
}

pub async fn revoke(cx: Data<Context>, by: By, name: Path<ReleaseName>) -> Result<HttpResponse> {
    revoke::revoke(&cx, &by, &name).await?;
    Ok(see(&format!("/releases/{name}")))
}
