//! Releases under `/api/v1`.

use crate::access::By;
use crate::error::AppError;
use crate::http::extract::Json;
use crate::http::extract::{self};
use crate::http::paged::Paged;
use crate::http::tags::{IfMatch, Tagged};
use crate::http::whole_file;
use actix_web::web::{Data, Path, Payload, Query};
use actix_web::{HttpResponse, Responder, get, post, put};
use fleeti_control::boot::proof;
use fleeti_control::context::Context;
use fleeti_control::evidence;
use fleeti_control::releases;
use fleeti_control::releases::revoke;
use fleeti_control::rollouts::path;
use fleeti_core::id::ReleaseName;
use fleeti_core::rollout::gates::ReleasePath;
use fleeti_core::wire::api::{Release, SignedBootProof};
use fleeti_core::wire::evidence::ReleaseEvidence;
use fleeti_core::wire::list::ListQuery;

type Result<T> = std::result::Result<T, AppError>;

/// List releases, newest first, one page at a time. `Link` has the address of the next page.
#[utoipa::path(tag = "releases", params(ListQuery), responses((status = 200, description = "Releases", body = Vec<Release>)))]
#[get("/releases")]
pub async fn list_releases(cx: Data<Context>, query: Query<ListQuery>) -> Result<impl Responder> {
    let limit = query.limit.map(|limit| limit.to_string());
    Ok(Paged::of(releases::page(&cx, &query).await?, &[("limit", limit)]))
}

/// Get a release.
#[utoipa::path(tag = "releases", responses((status = 200, description = "The release", body = Release)))]
#[get("/releases/{release}")]
pub async fn get_release(cx: Data<Context>, name: Path<ReleaseName>) -> Result<impl Responder> {
    Ok(Json(releases::get(&cx, &name).await?))
}

/// Verify an uploaded release and publish it. A published release never changes.
#[utoipa::path(tag = "releases", responses((status = 200, description = "The release", body = Release)))]
#[post("/releases/{release}/publish")]
pub async fn publish_release(
    cx: Data<Context>,
    by: By,
    name: Path<ReleaseName>,
) -> Result<impl Responder> {
    Ok(Json(releases::publish(&cx, &by, &name).await?))
}

/// Add the boot proof of a release: a statement, signed by release keys, that a device booted it
/// and measured what its manifest predicts.
#[utoipa::path(tag = "releases", responses((status = 200, description = "The release", body = Release)))]
#[put("/releases/{release}/boot-proof")]
pub async fn prove_release(
    cx: Data<Context>,
    by: By,
    name: Path<ReleaseName>,
    body: Json<SignedBootProof>,
) -> Result<impl Responder> {
    Ok(Json(proof::add(&cx, &by, &name, &body).await?))
}

/// Revoke a release. Its rollouts end, and no device gets it any more.
#[utoipa::path(tag = "releases", responses((status = 200, description = "The release", body = Release)))]
#[post("/releases/{release}/revoke")]
pub async fn revoke_release(
    cx: Data<Context>,
    by: By,
    name: Path<ReleaseName>,
) -> Result<impl Responder> {
    revoke::revoke(&cx, &by, &name).await?;
    Ok(Json(releases::get(&cx, &name).await?))
}

/// Get the evidence of a release in one document: signatures, approvals, builds, rollouts, what devices proved when, and the audit entries about all of them with their inclusion proofs.
#[utoipa::path(tag = "releases", responses((status = 200, description = "The evidence", body = ReleaseEvidence)))]
#[get("/releases/{release}/evidence")]
pub async fn get_release_evidence(
    cx: Data<Context>,
    by: By,
    name: Path<ReleaseName>,
) -> Result<impl Responder> {
    Ok(Json(evidence::of_release(&cx, &by, &name).await?))
}

/// Get the ways to a release: whether it is a floor, and from which versions it is not offered.
#[utoipa::path(tag = "releases", responses((status = 200, description = "The ways", body = ReleasePath)))]
#[get("/releases/{release}/path")]
pub async fn get_release_path(
    cx: Data<Context>,
    name: Path<ReleaseName>,
) -> Result<impl Responder> {
    Ok(Tagged::of(path::get(&cx, &name).await?))
}

/// Replace the ways to a release. A device with a version below a floor is offered the floor before a
/// higher version; a device with a blocked version is not offered the release.
#[utoipa::path(tag = "releases", responses((status = 200, description = "The ways", body = ReleasePath)))]
#[put("/releases/{release}/path")]
pub async fn set_release_path(
    cx: Data<Context>,
    by: By,
    name: Path<ReleaseName>,
    expected: IfMatch,
    body: Json<ReleasePath>,
) -> Result<impl Responder> {
    Ok(Tagged::of(path::set(&cx, &by, &name, &body, &expected).await?))
}

/// Get the manifest, a signature of it, the SBOM or the provenance of a published release.
#[utoipa::path(
    tag = "releases",
    responses((status = 200, description = "The file", body = Vec<u8>, content_type = "application/octet-stream"))
)]
#[get("/releases/{release}/files/{path:.*}")]
pub async fn get_file(
    cx: Data<Context>,
    path: Path<(ReleaseName, String)>,
) -> Result<impl Responder> {
    let file = releases::document(&cx, &path.0, &path.1).await?;
    Ok(whole_file::respond(&file).await?)
}

/// Upload a file of a release that is not published yet.
#[utoipa::path(
    tag = "releases",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 204, description = "The file is stored"))
)]
#[put("/releases/{release}/files/{path:.*}")]
pub async fn upload_file(
    cx: Data<Context>,
    path: Path<(ReleaseName, String)>,
    mut body: Payload,
) -> Result<impl Responder> {
    let kept = releases::upload(&cx, &path.0, &path.1, &mut body).await;
    if kept.is_err() {
        extract::drain(body).await;
    }
    Ok(kept.map(|()| HttpResponse::NoContent())?)
}
