//! Secrets of a fleet, and the recovery key of a device.

use super::page::{Page, Result, see};
use crate::error::AppError;
use actix_web::web::{Data, Form, Path};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_control::context::Context;
use fleeti_control::secrets;
use fleeti_core::id::{DeviceId, FleetId, SecretName};
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::vault::ShowRecoveryKey;
use serde::Deserialize;

#[derive(Template)]
#[template(path = "recovery.html")]
struct Shown {
    page: Page,
    device: String,
    key: String,
}

/// The only page that answers a form directly, without a redirect, so the user cannot return to it.
pub async fn show_recovery_key(
    cx: Data<Context>,
    request: HttpRequest,
    device: Path<DeviceId>,
    form: Form<ShowRecoveryKey>,
) -> Result<HttpResponse> {
    let key = secrets::show_recovery_key(&cx, &device, &form).await?;
    let page = Page::new("/devices", &request, &[]);
    let shown = Shown { page, device: device.to_string(), key: key.expose().to_owned() };
    let body = shown.render().map_err(AppError::internal)?;
    Ok(HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header(("cache-control", "no-store"))
        .body(body))
}

/// The form that sets a secret.
#[derive(Deserialize)]
pub struct Typed {
    name: SecretName,
    value: Secret,
}

pub async fn set_secret(
    cx: Data<Context>,
    fleet: Path<FleetId>,
    form: Form<Typed>,
) -> Result<HttpResponse> {
    // Browsers send line ends as CR LF.
    let value = form.value.expose().replace("\r\n", "\n");
    secrets::set_secret(&cx, &fleet, &form.name, &Secret::new(STANDARD.encode(value))).await?;
    Ok(see(&format!("/fleets/{fleet}")))
}

/// The form that removes a secret.
#[derive(Deserialize)]
pub struct Named {
    name: SecretName,
}

pub async fn remove_secret(
    cx: Data<Context>,
    fleet: Path<FleetId>,
    form: Form<Named>,
) -> Result<HttpResponse> {
    secrets::remove_secret(&cx, &fleet, &form.name).await?;
    Ok(see(&format!("/fleets/{fleet}")))
}
