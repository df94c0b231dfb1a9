//! Requests to the pages of devices.

use super::commands::CommandForm;
use super::form::{ChangeForm, LabelForm, ViewForm};
use super::view::{DeviceList, DevicePage, ROWS, RecoveryKeyPage, Special, list_path};
use crate::access::By;
use crate::pages::page::{Page, Result, html, see, show};
use actix_web::http::StatusCode;
use actix_web::web::{Data, Form, Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_control::attestation::challenge;
use fleeti_control::context::Context;
use fleeti_control::devices::search::Wanted;
use fleeti_control::devices::{self, Filter};
use fleeti_control::enrollment::pairing;
use fleeti_control::precondition::Expected;
use fleeti_control::second_person::{self, Submitted};
use fleeti_control::trust::revocation;
use fleeti_control::{bulk, channels, commands, details, labels, replacement, secrets, views};
use fleeti_core::id::{DeviceId, FleetId, Version, ViewName};
use fleeti_core::wire::api::{Pair, Revoke};
use fleeti_core::wire::approval::AskedAct;
use fleeti_core::wire::labels::{About, ChangeDevices, Replace};
use fleeti_core::wire::updates::UpdateOrder;
use fleeti_core::wire::vault::ShowRecoveryKey;
use serde::Deserialize;

/// The query of the list of devices.
#[derive(Deserialize)]
pub struct ListQuery {
    fleet: Option<FleetId>,
    trouble: Option<String>,
    drifting: Option<String>,
    /// From the search in the header: one device is opened.
    go: Option<String>,
    #[serde(default)]
    after: String,
    #[serde(default)]
    filter: String,
}

impl ListQuery {
    fn special(&self) -> Option<(Filter<'_>, Special)> {
        match (&self.trouble, &self.drifting) {
            (Some(_), _) => Some((Filter::InTrouble, Special::Trouble)),
            (None, Some(_)) => Some((Filter::Drifting(self.fleet.as_ref()), Special::Drifting)),
            (None, None) => None,
        }
    }
    fn wanted(&self) -> Wanted<'_> {
        let Self { fleet, after, filter, .. } = self;
        Wanted { fleet: fleet.as_ref(), filter, is_drifting: false, after, limit: ROWS }
    }
}

pub async fn list(
    cx: Data<Context>,
    by: By,
    request: HttpRequest,
    query: Query<ListQuery>,
) -> Result<HttpResponse> {
    let page = Page::new("/devices", &request, &["device"]);
    if let Some((filter, special)) = query.special() {
        let found = devices::page(&cx, &by, filter, &query.after, ROWS).await?;
        let fleet = query.fleet.as_ref().filter(|_| special == Special::Drifting);
        return show!(request, DeviceList::special(page, (special, fleet), &found));
    }
    let found = details::devices(&cx, &by, query.wanted()).await?;
    if let ([one], Some(_)) = (found.devices.as_slice(), &query.go) {
        return Ok(see(&format!("/devices/{}", one.id)));
    }
    show!(request, DeviceList::of(page, query.wanted(), found))
}

pub async fn change_all(cx: Data<Context>, by: By, form: Form<ChangeForm>) -> Result<HttpResponse> {
    let (ask, request) = (form.ask.clone(), ChangeDevices::try_from(form.into_inner())?);
    let act = AskedAct::RevokeDevices { request: request.clone() };
    let changed = bulk::change(&cx, &by, &request);
    Ok(match second_person::or_request(&cx, &by, (act, &ask), changed).await? {
        Submitted::Done(_) => see(&list_path(&request.filter)),
        Submitted::Waits(waits) => see(&format!("/approvals/{}", waits.id)),
    })
}

pub async fn save_view(cx: Data<Context>, by: By, form: Form<ViewForm>) -> Result<HttpResponse> {
    views::save(&cx, &by, &form.name, &form.filter, &Expected::Anything).await?;
    Ok(see(&list_path(&form.filter)))
}

pub async fn remove_view(cx: Data<Context>, by: By, view: Path<ViewName>) -> Result<HttpResponse> {
    views::remove(&cx, &by, &view).await?;
    Ok(see("/devices"))
}

pub async fn describe(
    cx: Data<Context>,
    by: By,
    id: Path<DeviceId>,
    form: Form<About>,
) -> Result<HttpResponse> {
    labels::describe(&cx, &by, &id, &form).await?;
    Ok(see(&format!("/devices/{id}")))
}

pub async fn label(
    cx: Data<Context>,
    by: By,
    id: Path<DeviceId>,
    form: Form<LabelForm>,
) -> Result<HttpResponse> {
    labels::change(&cx, &by, &id, &form.into_inner().into()).await?;
    Ok(see(&format!("/devices/{id}")))
}

pub async fn replace(
    cx: Data<Context>,
    by: By,
    id: Path<DeviceId>,
    form: Form<Replace>,
) -> Result<HttpResponse> {
    replacement::replace(&cx, &by, &id, &form.with).await?;
    Ok(see(&format!("/devices/{}", form.with)))
}

/// The form that approves a pending enrollment.
#[derive(Deserialize)]
pub struct PairingForm {
    code: String,
    fleet: FleetId,
}

pub async fn pair(cx: Data<Context>, by: By, form: Form<PairingForm>) -> Result<HttpResponse> {
    let PairingForm { code, fleet } = form.into_inner();
    let paired = pairing::enter(&cx, &by, &Pair { code, fleet }).await?;
    Ok(see(&format!("/devices?fleet={}", paired.fleet)))
}

pub async fn show(
    cx: Data<Context>,
    request: HttpRequest,
    id: Path<DeviceId>,
) -> Result<HttpResponse> {
    let details = details::device(&cx, &id).await?;
    let page = Page::new("/devices", &request, &["device", "alerts"]);
    show!(request, DevicePage::of(page, details))
}

pub async fn revoke(
    cx: Data<Context>,
    by: By,
    id: Path<DeviceId>,
    form: Form<Revoke>,
) -> Result<HttpResponse> {
    revocation::revoke(&cx, &by, &id, form.reason).await?;
    Ok(see(&format!("/devices/{id}")))
}

pub async fn release_hold(cx: Data<Context>, by: By, id: Path<DeviceId>) -> Result<HttpResponse> {
    revocation::release_hold(&cx, &by, &id).await?;
    Ok(see(&format!("/devices/{id}")))
}

/// The form that allows a version again that was rolled back.
#[derive(Deserialize)]
pub struct ForgiveForm {
    version: Version,
}

pub async fn forgive(
    cx: Data<Context>,
    by: By,
    id: Path<DeviceId>,
    form: Form<ForgiveForm>,
) -> Result<HttpResponse> {
    devices::forgive(&cx, &by, &id, &form.version).await?;
    Ok(see(&format!("/devices/{id}")))
}

pub async fn order_updates(
    cx: Data<Context>,
    by: By,
    id: Path<DeviceId>,
    form: Form<UpdateOrder>,
) -> Result<HttpResponse> {
    channels::order(&cx, &by, &id, &form).await?;
    Ok(see(&format!("/devices/{id}")))
}

pub async fn request_evidence(cx: Data<Context>, id: Path<DeviceId>) -> Result<HttpResponse> {
    challenge::ask_now(&cx, &id).await?;
    Ok(see(&format!("/devices/{id}")))
}

pub async fn send_command(
    cx: Data<Context>,
    by: By,
    id: Path<DeviceId>,
    form: Form<CommandForm>,
) -> Result<HttpResponse> {
    commands::create(&cx, &by, &id, &form.into_inner().command(&id)?).await?;
    Ok(see(&format!("/devices/{id}")))
}

pub async fn cancel_command(cx: Data<Context>, by: By, id: Path<String>) -> Result<HttpResponse> {
    let status = commands::cancel(&cx, &by, &id).await?;
    Ok(see(&format!("/devices/{}", status.device)))
}

/// A download: text of a device is never shown as a page of the server.
pub async fn command_result(cx: Data<Context>, by: By, id: Path<String>) -> Result<HttpResponse> {
    let result = commands::result(&cx, &by, &id).await?;
    Ok(HttpResponse::Ok()
        .content_type("application/octet-stream")
        .insert_header(("content-disposition", "attachment; filename=\"result\""))
        .body(result))
}

pub async fn accept_firmware(
    cx: Data<Context>,
    by: By,
    id: Path<DeviceId>,
) -> Result<HttpResponse> {
    challenge::accept_firmware(&cx, &by, &id).await?;
    Ok(see(&format!("/devices/{id}")))
}

/// The only page that answers a form directly, without a redirect, so the user cannot return to it.
pub async fn show_recovery_key(
    cx: Data<Context>,
    by: By,
    request: HttpRequest,
    id: Path<DeviceId>,
    form: Form<ShowRecoveryKey>,
) -> Result<HttpResponse> {
    let (device, asked) = (id.into_inner(), form.into_inner());
    let act = AskedAct::ShowRecoveryKey { device: device.clone(), request: asked.clone() };
    let shown = secrets::show_recovery_key(&cx, &by, &device, &asked);
    let page = Page::new("/devices", &request, &[]);
    Ok(match second_person::or_request(&cx, &by, (act, &asked.reason), shown).await? {
        Submitted::Done(key) => {
            html(StatusCode::OK, RecoveryKeyPage::of(page, &device, &key).render())
        }
        Submitted::Waits(waits) => see(&format!("/approvals/{}", waits.id)),
    })
}
