//! Attestation of devices, appraisal policies of fleets, and TPM manufacturers.

use crate::access::By;
use crate::error::AppError;
use crate::http::extract::Json;
use crate::http::tags::{IfMatch, Tagged};
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, Responder, delete, get, post, put};
use fleeti_control::attestation::{challenge as evidence, manufacturers, policy};
use fleeti_control::context::Context;
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::attestation::{
    AddTpmManufacturers, AskedFleet, Attestation, TpmManufacturer, TpmManufacturers,
};

type Result<T> = std::result::Result<T, AppError>;

/// Get the attestation of a device: its level, the claims behind it, and its measurements.
#[utoipa::path(tag = "attestation", responses((status = 200, description = "Level, claims and PCRs", body = Attestation)))]
#[get("/devices/{device}/attestation")]
pub async fn get_attestation(cx: Data<Context>, device: Path<DeviceId>) -> Result<impl Responder> {
    Ok(Json(evidence::get(&cx, &device).await?))
}

/// Get the attestation as an unsigned EAT Attestation Result (draft-ietf-rats-ear-04). 404 if the
/// device has never sent evidence.
#[utoipa::path(tag = "attestation", responses((status = 200, description = "EAR claims")))]
#[get("/devices/{device}/attestation/ear")]
pub async fn get_ear(cx: Data<Context>, device: Path<DeviceId>) -> Result<impl Responder> {
    Ok(Json(evidence::ear(&cx, &device).await?))
}

/// Get the appraisal policy of a fleet.
#[utoipa::path(tag = "attestation", responses((status = 200, description = "The policy", body = Policy)))]
#[get("/fleets/{fleet}/attestation-policy")]
pub async fn get_policy(cx: Data<Context>, fleet: Path<FleetId>) -> Result<impl Responder> {
    Ok(Tagged::of(policy::of(&cx, &fleet)))
}

/// Set the appraisal policy of a fleet. What the policy leaves out, no device gets.
#[utoipa::path(tag = "attestation", request_body = Policy, responses((status = 200, description = "The policy", body = Policy)))]
#[put("/fleets/{fleet}/attestation-policy")]
pub async fn set_policy(
    cx: Data<Context>,
    by: By,
    fleet: Path<FleetId>,
    expected: IfMatch,
    body: Json<Policy>,
) -> Result<impl Responder> {
    policy::set(&cx, &by, &fleet, &body, &expected).await?;
    Ok(Tagged::of(body.0))
}

/// Request evidence from a connected device now. The device answers within seconds, or not at all.
#[utoipa::path(tag = "attestation", responses((status = 202, description = "The challenge was sent")))]
#[post("/devices/{device}/attestation/challenge")]
pub async fn challenge(cx: Data<Context>, device: Path<DeviceId>) -> Result<impl Responder> {
    evidence::ask_now(&cx, &device).await?;
    Ok(HttpResponse::Accepted().json(()))
}

/// Request evidence from every connected device of a fleet.
#[utoipa::path(tag = "attestation", responses((status = 202, description = "The challenges were sent", body = AskedFleet)))]
#[post("/fleets/{fleet}/attestation/challenge")]
pub async fn challenge_fleet(cx: Data<Context>, fleet: Path<FleetId>) -> Result<impl Responder> {
    Ok(HttpResponse::Accepted().json(evidence::ask_fleet(&cx, &fleet).await?))
}

/// Accept the current firmware of a device.
#[utoipa::path(tag = "attestation", responses((status = 200, description = "Level and claims", body = Attestation)))]
#[post("/devices/{device}/attestation/accept-firmware")]
pub async fn accept_firmware(
    cx: Data<Context>,
    by: By,
    device: Path<DeviceId>,
) -> Result<impl Responder> {
    evidence::accept_firmware(&cx, &by, &device).await?;
    Ok(Json(evidence::get(&cx, &device).await?))
}

/// List the trusted TPM manufacturers, and the files that the server cannot read.
#[utoipa::path(tag = "attestation", responses((status = 200, description = "Certificates", body = TpmManufacturers)))]
#[get("/tpm-manufacturers")]
pub async fn list_manufacturers(cx: Data<Context>) -> Result<impl Responder> {
    Ok(Json(manufacturers::list(&cx)))
}

/// Trust the TPM manufacturers in a file. The server then appraises all TPMs of devices again.
#[utoipa::path(tag = "attestation", request_body = AddTpmManufacturers, responses((status = 201, description = "The newly trusted ones", body = Vec<TpmManufacturer>)))]
#[post("/tpm-manufacturers")]
pub async fn add_manufacturers(
    cx: Data<Context>,
    by: By,
    body: Json<AddTpmManufacturers>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(manufacturers::add(&cx, &by, &body).await?))
}

/// Stop trusting a TPM manufacturer. The server then appraises all TPMs of devices again.
#[utoipa::path(
    tag = "attestation",
    params(("id" = String, Path, description = "SHA-256 of its certificate, or at least the first 8 digits")),
    responses((status = 200, description = "The removed TPM manufacturer", body = TpmManufacturer))
)]
#[delete("/tpm-manufacturers/{id}")]
pub async fn remove_manufacturer(
    cx: Data<Context>,
    by: By,
    id: Path<String>,
) -> Result<impl Responder> {
    Ok(Json(manufacturers::remove(&cx, &by, &id).await?))
}
