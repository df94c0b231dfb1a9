//! The audit log under `/api/v1/audit`: entries, checkpoints, inclusion and consistency proofs.

use crate::error::AppError;
use crate::http::extract::Json;
use actix_web::web::{Data, Path, Query};
use actix_web::{HttpResponse, Responder, get};
use fleeti_control::audit;
use fleeti_control::context::Context;
use fleeti_core::wire::audit::{AuditConsistency, AuditEntries, AuditProof};
use serde::Deserialize;
use utoipa::IntoParams;

type Result<T> = std::result::Result<T, AppError>;

/// Selects entries.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Range {
    /// Number of the first entry.
    #[serde(default)]
    from: u64,
    /// Maximum number of entries, 1 to 1000; default 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
}

/// List entries of the audit log, oldest first.
#[utoipa::path(tag = "audit", params(Range), responses((status = 200, description = "Entries", body = AuditEntries)))]
#[get("/audit/entries")]
pub async fn list_entries(cx: Data<Context>, range: Query<Range>) -> Result<impl Responder> {
    Ok(Json(audit::page(&cx, range.from, range.limit).await?))
}

/// Get the inclusion proof of an entry.
#[utoipa::path(tag = "audit", responses((status = 200, description = "Entry, hashes and checkpoint", body = AuditProof)))]
#[get("/audit/entries/{number}/proof")]
pub async fn get_proof(cx: Data<Context>, number: Path<u64>) -> Result<impl Responder> {
    Ok(Json(audit::proof(&cx, *number).await?))
}

/// Get the current checkpoint (C2SP): the signed size and root hash of the audit log.
#[utoipa::path(tag = "audit", responses((status = 200, description = "A signed note", body = String, content_type = "text/plain")))]
#[get("/audit/checkpoint")]
pub async fn get_checkpoint(cx: Data<Context>) -> Result<impl Responder> {
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(audit::checkpoint(&cx).await?))
}

/// The sizes of two checkpoints.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Sizes {
    /// Size of the older checkpoint, in entries.
    old: u64,
    /// Size of the newer checkpoint, in entries.
    new: u64,
}

/// Get the consistency proof between two checkpoints.
#[utoipa::path(tag = "audit", params(Sizes), responses((status = 200, description = "Hashes", body = AuditConsistency)))]
#[get("/audit/consistency")]
pub async fn get_consistency(cx: Data<Context>, sizes: Query<Sizes>) -> Result<impl Responder> {
    Ok(Json(audit::consistency(&cx, sizes.old, sizes.new).await?))
}
