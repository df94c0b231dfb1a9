//! What devices prove, and what fleets ask them to prove.

use super::extract::Json;
use crate::app::AppRef;
use crate::error::AppError;
use crate::service::{attestation, manufacturers, policy};
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, Responder, delete, get, post, put};
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::attestation::{
    AddTpmManufacturers, AskedFleet, Attestation, TpmManufacturer, TpmManufacturers,
};

type Result<T> = std::result::Result<T, AppError>;

/// How far a device can be trusted, what for, and what it measured.
#[utoipa::path(tag = "attestation", responses((status = 200, description = "Level, claims and registers", body = Attestation)))]
#[get("/devices/{device}/attestation")]
pub async fn get_attestation(app: Data<AppRef>, device: Path<DeviceId>) -> Result<impl Responder> {
    Ok(Json(attestation::get(&app, &device).await?))
}

/// The same as an EAT Attestation Result (draft-ietf-rats-ear-04), unsigned; 404 for a device that
/// never answered.
#[utoipa::path(tag = "attestation", responses((status = 200, description = "EAR claims")))]
#[get("/devices/{device}/attestation/ear")]
pub async fn get_ear(app: Data<AppRef>, device: Path<DeviceId>) -> Result<impl Responder> {
    Ok(Json(attestation::ear(&app, &device).await?))
}

/// What a fleet asks of its devices.
#[utoipa::path(tag = "attestation", responses((status = 200, description = "The policy", body = Policy)))]
#[get("/fleets/{fleet}/attestation-policy")]
pub async fn get_policy(app: Data<AppRef>, fleet: Path<FleetId>) -> Result<impl Responder> {
    Ok(Json(app.policies.of(&fleet)))
}

/// Changes what a fleet asks of its devices. What is not said is granted to nobody.
#[utoipa::path(tag = "attestation", request_body = Policy, responses((status = 200, description = "The policy", body = Policy)))]
#[put("/fleets/{fleet}/attestation-policy")]
pub async fn set_policy(
    app: Data<AppRef>,
    fleet: Path<FleetId>,
    body: Json<Policy>,
) -> Result<impl Responder> {
    policy::set(&app, &fleet, &body).await?;
    Ok(body)
}

/// Asks a device's TPM now. The answer comes within seconds, or never.
#[utoipa::path(tag = "attestation", responses((status = 202, description = "It is asked")))]
#[post("/devices/{device}/attestation/challenge")]
pub async fn challenge(app: Data<AppRef>, device: Path<DeviceId>) -> Result<impl Responder> {
    attestation::ask_now(&app, &device).await?;
    Ok(HttpResponse::Accepted().json(()))
}

/// Asks the TPM of every device of a fleet that is there.
#[utoipa::path(tag = "attestation", responses((status = 202, description = "They are asked", body = AskedFleet)))]
#[post("/fleets/{fleet}/attestation/challenge")]
pub async fn challenge_fleet(app: Data<AppRef>, fleet: Path<FleetId>) -> Result<impl Responder> {
    Ok(HttpResponse::Accepted().json(attestation::ask_fleet(&app, &fleet).await?))
}

/// Accepts the firmware that a device has now.
#[utoipa::path(tag = "attestation", responses((status = 200, description = "Level and claims", body = Attestation)))]
#[post("/devices/{device}/attestation/accept-firmware")]
pub async fn accept_firmware(app: Data<AppRef>, device: Path<DeviceId>) -> Result<impl Responder> {
    attestation::accept_firmware(&app, &device).await?;
    Ok(Json(attestation::get(&app, &device).await?))
}

/// Which manufacturers of TPMs are believed, and which files of them cannot be read.
#[utoipa::path(tag = "attestation", responses((status = 200, description = "Certificates", body = TpmManufacturers)))]
#[get("/tpm-manufacturers")]
pub async fn list_manufacturers(app: Data<AppRef>) -> Result<impl Responder> {
    Ok(Json(manufacturers::list(&app)))
}

/// Believes the manufacturers of a file. The TPMs of devices are judged again.
#[utoipa::path(tag = "attestation", request_body = AddTpmManufacturers, responses((status = 201, description = "Those that are new", body = Vec<TpmManufacturer>)))]
#[post("/tpm-manufacturers")]
pub async fn add_manufacturers(
    app: Data<AppRef>,
    body: Json<AddTpmManufacturers>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(manufacturers::add(&app, &body).await?))
}

/// Believes a manufacturer no more. The TPMs of devices are judged again.
#[utoipa::path(
    tag = "attestation",
    params(("id" = String, Path, description = "SHA-256 of its certificate, or the first 8 digits of it or more")),
    responses((status = 200, description = "The one that was believed", body = TpmManufacturer))
)]
#[delete("/tpm-manufacturers/{id}")]
pub async fn remove_manufacturer(app: Data<AppRef>, id: Path<String>) -> Result<impl Responder> {
    Ok(Json(manufacturers::remove(&app, &id).await?))
}
