//! The audit log under `/api/v1/audit`: entries, statements and proofs, as whoever checks them
//! needs them.

use super::extract::Json;
use crate::app::AppRef;
use crate::error::AppError;
use crate::service::audit;
use actix_web::web::{Data, Path, Query};
use actix_web::{HttpResponse, Responder, get};
use fleeti_core::wire::api::{AuditConsistency, AuditEntries, AuditProof};
use serde::Deserialize;
use utoipa::IntoParams;

type Result<T> = std::result::Result<T, AppError>;

/// Which entries.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Range {
    /// Number of the first one.
    #[serde(default)]
    from: u64,
    /// Most entries, 1000 at the most and by default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
}

/// Entries of the audit log, oldest first.
#[utoipa::path(tag = "audit", params(Range), responses((status = 200, description = "Entries", body = AuditEntries)))]
#[get("/audit/entries")]
pub async fn list_entries(app: Data<AppRef>, range: Query<Range>) -> Result<impl Responder> {
    Ok(Json(audit::page(&app, range.from, range.limit).await?))
}

/// The proof that an entry is in the audit log.
#[utoipa::path(tag = "audit", responses((status = 200, description = "Entry, hashes and checkpoint", body = AuditProof)))]
#[get("/audit/entries/{number}/proof")]
pub async fn get_proof(app: Data<AppRef>, number: Path<u64>) -> Result<impl Responder> {
    Ok(Json(audit::proof(&app, *number).await?))
}

/// A signed statement of the audit log's size and root, C2SP checkpoint.
#[utoipa::path(tag = "audit", responses((status = 200, description = "A signed note", body = String, content_type = "text/plain")))]
#[get("/audit/checkpoint")]
pub async fn get_checkpoint(app: Data<AppRef>) -> Result<impl Responder> {
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(audit::checkpoint(&app).await?))
}

/// Two sizes of the log.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Sizes {
    /// Entries of the older statement.
    old: u64,
    /// Entries of the newer one.
    new: u64,
}

/// The proof that the audit log only grew.
#[utoipa::path(tag = "audit", params(Sizes), responses((status = 200, description = "Hashes", body = AuditConsistency)))]
#[get("/audit/consistency")]
pub async fn get_consistency(app: Data<AppRef>, sizes: Query<Sizes>) -> Result<impl Responder> {
    Ok(Json(audit::consistency(&app, sizes.old, sizes.new).await?))
}
