//! Builds, and the signatures on them under `/api/v1`.

use crate::access::By;
use crate::error::AppError;
use crate::http::extract::Json;
use crate::http::paged::Paged;
use actix_web::web::{Data, Path, Query};
use actix_web::{HttpResponse, Responder, get, post};
use fleeti_control::builds;
use fleeti_control::builds::approvals;
use fleeti_control::context::Context;
use fleeti_core::wire::api::{Build, CreateBuild, RequestSignature, SignatureStatus, SignedBy};
use fleeti_core::wire::list::ListQuery;

type Result<T> = std::result::Result<T, AppError>;

/// List builds, newest first, one page at a time. `Link` has the address of the next page.
#[utoipa::path(tag = "builds", params(ListQuery), responses((status = 200, description = "Builds", body = Vec<Build>)))]
#[get("/builds")]
pub async fn list_builds(cx: Data<Context>, query: Query<ListQuery>) -> Result<impl Responder> {
    let limit = query.limit.map(|limit| limit.to_string());
    Ok(Paged::of(builds::page(&cx, &query).await?, &[("limit", limit)]))
}

/// Queue a build.
#[utoipa::path(tag = "builds", responses((status = 201, description = "The build, queued for a worker", body = Build)))]
#[post("/builds")]
pub async fn create_build(
    cx: Data<Context>,
    by: By,
    body: Json<CreateBuild>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(builds::create(&cx, &by, &body).await?))
}

/// Get a build.
#[utoipa::path(tag = "builds", responses((status = 200, description = "The build", body = Build)))]
#[get("/builds/{build}")]
pub async fn get_build(cx: Data<Context>, id: Path<String>) -> Result<impl Responder> {
    Ok(Json(builds::get(&cx, &id).await?))
}

/// Sign a build and publish it as a release, if the signing service holds the release key and needs
/// no approvals.
#[utoipa::path(tag = "builds", responses((status = 202, description = "The build, queued for signing", body = Build)))]
#[post("/builds/{build}/sign")]
pub async fn sign_build(cx: Data<Context>, by: By, id: Path<String>) -> Result<impl Responder> {
    Ok(HttpResponse::Accepted().json(approvals::sign_alone(&cx, &by, &id).await?))
}

/// Get the record of a build. Approvers sign the digest of exactly these bytes.
#[utoipa::path(tag = "builds", responses((status = 200, description = "build.json", body = String, content_type = "application/json")))]
#[get("/builds/{build}/record")]
pub async fn get_record(cx: Data<Context>, id: Path<String>) -> Result<impl Responder> {
    Ok(HttpResponse::Ok().content_type("application/json").body(approvals::record(&cx, &id).await?))
}

/// Get the approvals of a build: how many the signing service needs, who may give them, and who
/// did.
#[utoipa::path(tag = "builds", responses((status = 200, description = "The request and its approvals", body = SignatureStatus)))]
#[get("/builds/{build}/signature")]
pub async fn get_signature(cx: Data<Context>, id: Path<String>) -> Result<impl Responder> {
    Ok(Json(approvals::status(&cx, &id).await?))
}

/// Request the signature of a build, with the requester's own signature.
#[utoipa::path(tag = "builds", responses((status = 201, description = "The request, which waits for approvals", body = SignatureStatus)))]
#[post("/builds/{build}/signature")]
pub async fn request_signature(
    cx: Data<Context>,
    id: Path<String>,
    body: Json<RequestSignature>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(approvals::request(&cx, &id, &body).await?))
}

/// Approve a signing request, with the approver's own signature. The last approval that is needed
/// starts signing and publication.
#[utoipa::path(tag = "builds", responses((status = 201, description = "The request and its approvals", body = SignatureStatus)))]
#[post("/builds/{build}/approvals")]
pub async fn approve_signature(
    cx: Data<Context>,
    id: Path<String>,
    body: Json<SignedBy>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(approvals::approve(&cx, &id, &body).await?))
}
