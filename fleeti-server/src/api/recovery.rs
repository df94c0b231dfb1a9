//! Recovery of devices that were away too long: transitions between trust anchors, and readmission
//! with an expired certificate.

use crate::access::By;
use crate::error::AppError;
use crate::http::extract::Json;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, Responder, get, post};
use fleeti_control::context::Context;
use fleeti_control::enrollment::readmission;
use fleeti_control::trust::transitions;
use fleeti_core::id::FleetId;
use fleeti_core::wire::readmission::SignedTransition;
use fleeti_core::wire::readmission::{CreateReadmission, Readmission};

type Result<T> = std::result::Result<T, AppError>;

/// List transitions: signed documents by which old trust anchors (root CA, release keys, audit log
/// key) introduce new ones.
#[utoipa::path(tag = "trust", responses((status = 200, description = "All transitions, oldest first", body = Vec<SignedTransition>)))]
#[get("/transitions")]
pub async fn list_transitions(cx: Data<Context>) -> Result<impl Responder> {
    Ok(Json(transitions::all(&cx).await?))
}

/// Import a transition, and announce it to devices. The server keeps it forever. Importing it again
/// with other signatures adds these signatures.
#[utoipa::path(tag = "trust", responses((status = 201, description = "All transitions, oldest first", body = Vec<SignedTransition>)))]
#[post("/transitions")]
pub async fn import_transition(
    cx: Data<Context>,
    by: By,
    body: Json<SignedTransition>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(transitions::import(&cx, &by, &body).await?))
}

/// Readmit devices of a fleet whose certificates have expired and whose keys are files. An attacker
/// with a copy of such a device's disk can then connect as that device.
#[utoipa::path(tag = "devices", params(("fleet" = FleetId, Path, description = "The fleet of the devices")),
    responses((status = 201, description = "When readmission ends, and how many devices it concerns", body = Readmission)))]
#[post("/fleets/{fleet}/readmission")]
pub async fn readmit_fleet(
    cx: Data<Context>,
    by: By,
    fleet: Path<FleetId>,
    body: Json<CreateReadmission>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(readmission::open(&cx, &by, &fleet, &body).await?))
}
