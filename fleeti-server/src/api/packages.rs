//! Packages of releases under `/api/v1`.

use crate::access::By;
use crate::error::AppError;
use crate::http::extract::Json;
use actix_web::web::{Data, Query};
use actix_web::{Responder, get};
use fleeti_control::context::Context;
use fleeti_control::packages::{self, Question};
use fleeti_core::wire::package::PackageDevices;
use serde::Deserialize;
use utoipa::IntoParams;

type Result<T> = std::result::Result<T, AppError>;

/// Selects a package, and a page of the devices that have it.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PackageParams {
    /// A package or a source package, perhaps with `<`, `<=`, `=`, `>=` or `>` and a version.
    #[param(max_length = 400)]
    q: String,
    /// The last id of the previous page; empty for the first page.
    #[serde(default)]
    #[param(max_length = 64, pattern = "^([a-z0-9][a-z0-9-]*)?$")]
    after: String,
    /// Maximum number of devices in the page, 1 to 500; default 100.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// Find the devices that have a package: those that prove it, those that report it, and those of
/// which it is not known.
#[utoipa::path(tag = "devices", params(PackageParams), responses((status = 200, description = "Numbers, releases, and one page of devices", body = PackageDevices)))]
#[get("/packages/devices")]
pub async fn find_package(
    cx: Data<Context>,
    by: By,
    query: Query<PackageParams>,
) -> Result<impl Responder> {
    let PackageParams { q: query, after, limit } = query.into_inner();
    let question = Question { query, after, limit: limit.unwrap_or(100) };
    Ok(Json(packages::devices(&cx, &by, &question).await?))
}
