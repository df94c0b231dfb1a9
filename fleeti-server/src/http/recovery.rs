//! What brings devices back that were away too long: transitions between anchors, and certificates
//! that have ended.

use super::extract::Json;
use crate::app::AppRef;
use crate::error::AppError;
use crate::service::{readmission, transitions};
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, Responder, get, post};
use fleeti_core::id::FleetId;
use fleeti_core::wire::device::SignedTransition;
use fleeti_core::wire::readmission::{CreateReadmission, Readmission};

type Result<T> = std::result::Result<T, AppError>;

/// What old roots, release keys and keys of the audit log say of the ones that follow them.
#[utoipa::path(tag = "trust", responses((status = 200, description = "The oldest first", body = Vec<SignedTransition>)))]
#[get("/transitions")]
pub async fn list_transitions(app: Data<AppRef>) -> Result<impl Responder> {
    Ok(Json(transitions::all(&app).await?))
}

/// Takes a transition, and tells devices of it. It is kept for ever; the same again with other
/// signatures adds those.
#[utoipa::path(tag = "trust", responses((status = 201, description = "The oldest first", body = Vec<SignedTransition>)))]
#[post("/transitions")]
pub async fn import_transition(
    app: Data<AppRef>,
    body: Json<SignedTransition>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(transitions::import(&app, &body).await?))
}

/// Lets devices of a fleet in again whose certificates have ended and whose keys are files. Whoever
/// has copied such a device's disk comes back with it.
#[utoipa::path(tag = "devices", params(("fleet" = FleetId, Path, description = "Whose devices")),
    responses((status = 201, description = "Until when, and how many devices it is about", body = Readmission)))]
#[post("/fleets/{fleet}/readmission")]
pub async fn readmit_fleet(
    app: Data<AppRef>,
    fleet: Path<FleetId>,
    body: Json<CreateReadmission>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(readmission::open(&app, &fleet, &body).await?))
}
