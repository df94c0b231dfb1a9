//! Requests to the page of a fleet.

use super::form::PolicyForm;
use super::view::FleetPage;
use crate::access::By;
use crate::pages::page::{Page, Result, see, show};
use actix_web::web::{Data, Form, Path};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_control::attestation::policy;
use fleeti_control::context::Context;
use fleeti_control::precondition::Expected;
use fleeti_control::{details, secrets};
use fleeti_core::id::{FleetId, SecretName};
use fleeti_core::wire::attestation::Secret;
use serde::Deserialize;

pub async fn show(
    cx: Data<Context>,
    by: By,
    request: HttpRequest,
    fleet: Path<FleetId>,
) -> Result<HttpResponse> {
    let details = details::fleet(&cx, &by, &fleet).await?;
    show!(
        request,
        FleetPage::of(Page::new("/", &request, &["fleet", "device", "rollout"]), &details)
    )
}

pub async fn set_policy(
    cx: Data<Context>,
    by: By,
    fleet: Path<FleetId>,
    form: Form<PolicyForm>,
) -> Result<HttpResponse> {
    let expected = Expected::of_form(&form.etag);
    policy::set(&cx, &by, &fleet, &form.into_inner().try_into()?, &expected).await?;
    Ok(see(&format!("/fleets/{fleet}")))
}

/// The form that sets a secret.
#[derive(Deserialize)]
pub struct SecretForm {
    name: SecretName,
    value: Secret,
}

pub async fn set_secret(
    cx: Data<Context>,
    by: By,
    fleet: Path<FleetId>,
    form: Form<SecretForm>,
) -> Result<HttpResponse> {
    // Browsers send line ends as CR LF.
    let value = form.value.expose().replace("\r\n", "\n");
    secrets::set_secret(&cx, &by, &fleet, &form.name, &Secret::new(STANDARD.encode(value))).await?;
    Ok(see(&format!("/fleets/{fleet}")))
}

/// The form that removes a secret.
#[derive(Deserialize)]
pub struct SecretNameForm {
    name: SecretName,
}

pub async fn remove_secret(
    cx: Data<Context>,
    by: By,
    fleet: Path<FleetId>,
    form: Form<SecretNameForm>,
) -> Result<HttpResponse> {
    secrets::remove_secret(&cx, &by, &fleet, &form.name).await?;
    Ok(see(&format!("/fleets/{fleet}")))
}
