//! Acts that wait for a second person, under `/api/v1`.

use crate::access::By;
use crate::error::AppError;
use crate::http::extract::Json;
use crate::http::tags::{IfMatch, Tagged};
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, Responder, get, post, put};
use fleeti_control::context::Context;
use fleeti_control::{guard, second_person};
use fleeti_core::wire::approval::{
    Approval, ApprovalDetails, ApprovalPolicy, Decide, RequestApproval,
};
use fleeti_core::wire::vault::ShownRecoveryKey;

type Result<T> = std::result::Result<T, AppError>;

/// List acts that wait for a second person, and then the newest that waited.
#[utoipa::path(tag = "approvals", responses((status = 200, description = "Acts of the own account and of the fleets that the caller may see", body = Vec<Approval>)))]
#[get("/approvals")]
pub async fn list_approvals(cx: Data<Context>, by: By) -> Result<impl Responder> {
    Ok(Json(second_person::list(&cx, &by).await?))
}

/// Request the approval of a second person. The caller needs what the act needs.
#[utoipa::path(tag = "approvals", responses((status = 201, description = "The act, which waits", body = Approval)))]
#[post("/approvals")]
pub async fn request_approval(
    cx: Data<Context>,
    by: By,
    body: Json<RequestApproval>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(second_person::request(&cx, &by, &body).await?))
}

/// Get an act that waits for a second person, or waited, with exactly what is performed.
#[utoipa::path(tag = "approvals", responses((status = 200, description = "The act, and whether the caller may decide", body = ApprovalDetails)))]
#[get("/approvals/{approval}")]
pub async fn get_approval(cx: Data<Context>, by: By, id: Path<String>) -> Result<impl Responder> {
    Ok(Json(second_person::get(&cx, &by, &id).await?))
}

/// Approve an act as a second person. The server performs exactly what was requested, or refuses it;
/// a recovery key waits for its requester.
#[utoipa::path(tag = "approvals", responses((status = 200, description = "What became of the act", body = Approval)))]
#[post("/approvals/{approval}/approve")]
pub async fn approve_act(
    cx: Data<Context>,
    by: By,
    id: Path<String>,
    body: Json<Decide>,
) -> Result<impl Responder> {
    Ok(Json(second_person::approve(&cx, &by, &id, &body).await?))
}

/// Deny an act as a second person, or withdraw an own one.
#[utoipa::path(tag = "approvals", responses((status = 200, description = "What became of the act", body = Approval)))]
#[post("/approvals/{approval}/deny")]
pub async fn deny_act(
    cx: Data<Context>,
    by: By,
    id: Path<String>,
    body: Json<Decide>,
) -> Result<impl Responder> {
    Ok(Json(second_person::deny(&cx, &by, &id, &body).await?))
}

/// Show the recovery key of an approved act to its requester, once.
#[utoipa::path(tag = "approvals", responses((status = 200, description = "The key", body = ShownRecoveryKey)))]
#[post("/approvals/{approval}/recovery-key")]
pub async fn collect_recovery_key(
    cx: Data<Context>,
    by: By,
    id: Path<String>,
) -> Result<impl Responder> {
    let key = second_person::collect(&cx, &by, &id).await?;
    Ok(HttpResponse::Ok()
        .insert_header(("cache-control", "no-store"))
        .json(ShownRecoveryKey { key }))
}

/// Get which acts need a second person.
#[utoipa::path(tag = "approvals", responses((status = 200, description = "The policy, without fleets that the caller may not see", body = ApprovalPolicy)))]
#[get("/approval-policy")]
pub async fn get_approval_policy(cx: Data<Context>, by: By) -> Result<impl Responder> {
    Ok(Tagged::of(second_person::policy(&cx, &by).await?))
}

/// Set which acts need a second person. Where any does already, this needs one as well.
#[utoipa::path(tag = "approvals", responses((status = 200, description = "The policy", body = ApprovalPolicy)))]
#[put("/approval-policy")]
pub async fn set_approval_policy(
    cx: Data<Context>,
    by: By,
    expected: IfMatch,
    body: Json<ApprovalPolicy>,
) -> Result<impl Responder> {
    Ok(Tagged::of(guard::set_policy(&cx, &by, &body, &expected).await?))
}
