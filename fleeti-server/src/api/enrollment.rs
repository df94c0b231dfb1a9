//! Enrollment and provisioning of devices under `/api/v1`.

use crate::access::By;
use crate::error::AppError;
use crate::http::extract::Json;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, Responder, get, post};
use fleeti_control::boot;
use fleeti_control::context::Context;
use fleeti_control::enrollment::{pairing, token};
use fleeti_control::ports::Addresses;
use fleeti_core::id::FleetId;
use fleeti_core::wire::api::{CreateEnrollment, Enrollment, Pair, Paired, Provision, Provisioned};
use fleeti_core::wire::enrollment::EnrollmentRecord;

type Result<T> = std::result::Result<T, AppError>;

/// Create a one-time enrollment token. Only this response contains it.
#[utoipa::path(tag = "devices", responses((status = 201, description = "The enrollment record", body = Enrollment)))]
#[post("/fleets/{fleet}/enrollments")]
pub async fn create_enrollment(
    cx: Data<Context>,
    by: By,
    addresses: Data<Addresses>,
    fleet: Path<FleetId>,
    body: Json<CreateEnrollment>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(token::create(&cx, &by, &fleet, &body, &addresses).await?))
}

/// Provision a new device: create its id, its enrollment token and its Secure Boot keys. Only this
/// response contains the token.
#[utoipa::path(tag = "devices", responses((status = 201, description = "The enrollment record and boot keys for the disk of the device", body = Provisioned)))]
#[post("/fleets/{fleet}/devices")]
pub async fn provision_device(
    cx: Data<Context>,
    by: By,
    addresses: Data<Addresses>,
    fleet: Path<FleetId>,
    body: Json<Provision>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(boot::provision(&cx, &by, &fleet, &body, &addresses).await?))
}

/// Get the enrollment record without a token: the device shows a pairing code, which an operator
/// enters.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The enrollment record", body = EnrollmentRecord)))]
#[get("/enrollment-record")]
pub async fn get_record_without_token(
    cx: Data<Context>,
    addresses: Data<Addresses>,
) -> impl Responder {
    Json(pairing::record(&cx, &addresses))
}

/// Enter the pairing code that a device shows, so that it may enroll into the fleet.
#[utoipa::path(tag = "devices", responses((status = 201, description = "The device may enroll", body = Paired)))]
#[post("/pairings")]
pub async fn enter_code(cx: Data<Context>, by: By, body: Json<Pair>) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(pairing::enter(&cx, &by, &body).await?))
}
