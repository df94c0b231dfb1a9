//! The API under `/api/v1`, for the holder of the administrator's token. The OpenAPI document is
//! generated from these handlers and their types, and served at `/api/v1/openapi.json`.

use super::extract::Json;
use super::extract::{self, BodyMax};
use super::methods::head_as_get;
use super::{attestation, audit, openapi, recovery, vault, worker};
use crate::error::AppError;
use crate::sse::{self, KEEP_ALIVE, Message};
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Data, Path, Payload, Query};
use actix_web::{HttpRequest, HttpResponse, Responder, get, post, put};
use fleeti_control::boot::proof;
use fleeti_control::builds::approvals;
use fleeti_control::context::Context;
use fleeti_control::devices::Filter;
use fleeti_control::enrollment::{pairing, token};
use fleeti_control::ports::Addresses;
use fleeti_control::releases::revoke;
use fleeti_control::trust::revocation;
use fleeti_control::{
    boot, builds, commands, devices, logins, profiles, releases, rollouts, trust,
};
use fleeti_core::id::{DeviceId, FleetId, Line, ReleaseName};
use fleeti_core::profile::Profile;
use fleeti_core::wire::api::{
    Build, ChangeBoot, CommandStatus, CreateBuild, CreateCommand, CreateEnrollment, CreateRollout,
    Device, Enrollment, Event, Fleet, Forgive, ImportBundle, Pair, Paired, ProfileRevision,
    Provision, Provisioned, Release, RequestSignature, Revoke, Rollout, RolloutQuery,
    RolloutSummary, SignatureStatus, SignedBootProof, SignedBy, SwitchIssuer, TrustStatus,
};
use fleeti_core::wire::enrollment::EnrollmentRecord;
use fleeti_core::wire::problem::Code;
use futures::StreamExt;
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use utoipa::IntoParams;
use utoipa_actix_web::service_config::ServiceConfig;

/// Maximum size of a JSON body in bytes.
const JSON_MAX: usize = 2 << 20;
const LIST_MAX: u32 = 200;

type Result<T> = std::result::Result<T, AppError>;

/// The one list of routes.
pub fn routes(config: &mut ServiceConfig) {
    config
        .app_data(BodyMax(JSON_MAX))
        .app_data(extract::paths())
        .app_data(extract::queries())
        .service(
            utoipa_actix_web::scope("/api/v1")
                .service(list_devices)
                .service(get_device)
                .service(get_certificate)
                .service(revoke_device)
                .service(release_hold)
                .service(forgive_device)
                .service(change_boot)
                .service(create_command)
                .service(get_command)
                .service(list_fleets)
                .service(create_enrollment)
                .service(provision_device)
                .service(get_record_without_token)
                .service(enter_code)
                .service(list_profiles)
                .service(save_profile)
                .service(list_revisions)
                .service(get_revision)
                .service(list_builds)
                .service(create_build)
                .service(get_build)
                .service(sign_build)
                .service(get_record)
                .service(get_signature)
                .service(request_signature)
                .service(approve_signature)
                .service(get_trust)
                .service(import_bundle)
                .service(switch_issuer)
                .service(recovery::list_transitions)
                .service(recovery::import_transition)
                .service(recovery::readmit_fleet)
                .service(list_releases)
                .service(get_release)
                .service(publish_release)
                .service(prove_release)
                .service(revoke_release)
                .service(upload_file)
                .service(list_rollouts)
                .service(start_rollout)
                .service(get_rollout)
                .service(abort_rollout)
                .service(events)
                .service(attestation::get_attestation)
                .service(attestation::get_ear)
                .service(attestation::get_policy)
                .service(attestation::set_policy)
                .service(attestation::challenge)
                .service(attestation::challenge_fleet)
                .service(attestation::accept_firmware)
                .service(attestation::list_manufacturers)
                .service(attestation::add_manufacturers)
                .service(attestation::remove_manufacturer)
                .service(vault::get_recovery_key)
                .service(vault::show_recovery_key)
                .service(vault::list_secrets)
                .service(vault::set_secret)
                .service(vault::remove_secret)
                .service(worker::list_workers)
                .service(worker::add_worker)
                .service(worker::remove_worker)
                .service(audit::list_entries)
                .service(audit::get_proof)
                .service(audit::get_checkpoint)
                .service(audit::get_consistency)
                .default_service(web::to(nothing_here))
                .wrap(from_fn(authenticate))
                .wrap(from_fn(head_as_get)),
        );
}

async fn nothing_here(request: HttpRequest) -> Result<HttpResponse> {
    Err(openapi::METHODS.refuse(&request))
}

fn bearer_token(request: &ServiceRequest) -> Option<&str> {
    request.headers().get("authorization").and_then(|h| h.to_str().ok()?.strip_prefix("Bearer "))
}

async fn authenticate(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> std::result::Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let (cx, given) = (request.app_data::<Data<Context>>(), bearer_token(&request));
    let good = matches!((cx, given), (Some(cx), Some(given)) if logins::is_admin_token(cx, given));
    if !good {
        if let (Some(cx), Some(_)) = (cx, given) {
            let from = request.peer_addr().map(|a| a.ip());
            logins::api_refused(cx, from).await.map_err(AppError::from)?;
        }
        let e = AppError::new(Code::Unauthenticated, "missing or invalid bearer token")
            .hint("send the token in DIR/admin.token");
        return Err(e.into());
    }
    next.call(request).await
}

/// Get the trust bundle: which intermediate CAs count, which of them issue, and how many devices
/// have the bundle.
#[utoipa::path(tag = "trust", responses((status = 200, description = "The trust bundle", body = TrustStatus)))]
#[get("/trust-bundle")]
async fn get_trust(cx: Data<Context>) -> Result<impl Responder> {
    Ok(Json(trust::status(&cx).await?))
}

/// Import the result of a root ceremony: a trust bundle, and the transcript of how it was made.
#[utoipa::path(tag = "trust", responses((status = 201, description = "The trust bundle, now in force", body = TrustStatus)))]
#[post("/trust-bundle")]
async fn import_bundle(cx: Data<Context>, body: Json<ImportBundle>) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(trust::import(&cx, &body).await?))
}

/// Make another intermediate CA of the trust bundle the issuer.
#[utoipa::path(tag = "trust", responses((status = 200, description = "The trust bundle, with the new issuer", body = TrustStatus)))]
#[post("/trust-bundle/issuer")]
async fn switch_issuer(cx: Data<Context>, body: Json<SwitchIssuer>) -> Result<impl Responder> {
    Ok(Json(trust::switch(&cx, &body).await?))
}

/// Selects a page of devices.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Page {
    /// The last id of the previous page; empty for the first page.
    #[serde(default)]
    #[param(max_length = 64, pattern = "^([a-z0-9][a-z0-9-]*)?$")]
    after: String,
    /// Maximum number of devices in the page, 1 to 500; default 100.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// Return only devices of this fleet.
    fleet: Option<FleetId>,
}

/// List devices, ordered by id, one page at a time.
#[utoipa::path(tag = "devices", params(Page), responses((status = 200, description = "One page of devices", body = Vec<Device>)))]
#[get("/devices")]
async fn list_devices(cx: Data<Context>, page: Query<Page>) -> Result<impl Responder> {
    let filter = page.fleet.as_ref().map_or(Filter::All, Filter::Fleet);
    Ok(Json(devices::page(&cx, filter, &page.after, page.limit.unwrap_or(100)).await?))
}

/// Get a device.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The device", body = Device)))]
#[get("/devices/{device}")]
async fn get_device(cx: Data<Context>, device: Path<DeviceId>) -> Result<impl Responder> {
    Ok(Json(devices::get(&cx, device.as_str()).await?))
}

/// Get the certificate of a device, PEM.
#[utoipa::path(tag = "devices", responses((status = 200, description = "PEM", body = String, content_type = "application/pem-certificate-chain")))]
#[get("/devices/{device}/certificate")]
async fn get_certificate(cx: Data<Context>, device: Path<DeviceId>) -> Result<impl Responder> {
    let pem = devices::certificate(&cx, &device).await?;
    Ok(HttpResponse::Ok().content_type("application/pem-certificate-chain").body(pem))
}

/// Revoke the certificate of a device and disconnect the device at once.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The device", body = Device)))]
#[post("/devices/{device}/revoke")]
async fn revoke_device(
    cx: Data<Context>,
    device: Path<DeviceId>,
    body: Json<Revoke>,
) -> Result<impl Responder> {
    revocation::revoke(&cx, &device, body.reason).await?;
    Ok(Json(devices::get(&cx, device.as_str()).await?))
}

/// Release a hold, the only revocation that can be undone.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The device", body = Device)))]
#[post("/devices/{device}/release-hold")]
async fn release_hold(cx: Data<Context>, device: Path<DeviceId>) -> Result<impl Responder> {
    revocation::release_hold(&cx, &device).await?;
    Ok(Json(devices::get(&cx, device.as_str()).await?))
}

/// Change the Secure Boot keys of a device. The device applies the change once it learns of it.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The device", body = Device)))]
#[post("/devices/{device}/boot-keys")]
async fn change_boot(
    cx: Data<Context>,
    device: Path<DeviceId>,
    body: Json<ChangeBoot>,
) -> Result<impl Responder> {
    boot::change(&cx, &device, &body).await?;
    Ok(Json(devices::get(&cx, device.as_str()).await?))
}

/// Allow a device to try a version again after a rollback.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The device", body = Device)))]
#[post("/devices/{device}/forgive")]
async fn forgive_device(
    cx: Data<Context>,
    device: Path<DeviceId>,
    body: Json<Forgive>,
) -> Result<impl Responder> {
    devices::forgive(&cx, &device, &body.version).await?;
    Ok(Json(devices::get(&cx, device.as_str()).await?))
}

/// Queue a command for a device.
#[utoipa::path(tag = "commands", responses((status = 201, description = "The queued command", body = CommandStatus)))]
#[post("/devices/{device}/commands")]
async fn create_command(
    cx: Data<Context>,
    device: Path<DeviceId>,
    body: Json<CreateCommand>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(commands::create(&cx, &device, &body).await?))
}

/// Get the status of a command.
#[utoipa::path(tag = "commands", responses((status = 200, description = "The command", body = CommandStatus)))]
#[get("/commands/{command}")]
async fn get_command(cx: Data<Context>, command: Path<String>) -> Result<impl Responder> {
    Ok(Json(commands::get(&cx, &command).await?))
}

/// List fleets that have, or had, a device.
#[utoipa::path(tag = "devices", responses((status = 200, description = "Fleets", body = Vec<Fleet>)))]
#[get("/fleets")]
async fn list_fleets(cx: Data<Context>) -> Result<impl Responder> {
    Ok(Json(devices::fleets(&cx).await?))
}

/// Create a one-time enrollment token. Only this response contains it.
#[utoipa::path(tag = "devices", responses((status = 201, description = "The enrollment record", body = Enrollment)))]
#[post("/fleets/{fleet}/enrollments")]
async fn create_enrollment(
    cx: Data<Context>,
    addresses: Data<Addresses>,
    fleet: Path<FleetId>,
    body: Json<CreateEnrollment>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(token::create(&cx, &fleet, &body, &addresses).await?))
}

/// Provision a new device: create its id, its enrollment token and its Secure Boot keys. Only this
/// response contains the token.
#[utoipa::path(tag = "devices", responses((status = 201, description = "The enrollment record and boot keys for the disk of the device", body = Provisioned)))]
#[post("/fleets/{fleet}/devices")]
async fn provision_device(
    cx: Data<Context>,
    addresses: Data<Addresses>,
    fleet: Path<FleetId>,
    body: Json<Provision>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(boot::provision(&cx, &fleet, &body, &addresses).await?))
}

/// Get the enrollment record without a token: the device shows a pairing code, which an operator
/// enters.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The enrollment record", body = EnrollmentRecord)))]
#[get("/enrollment-record")]
async fn get_record_without_token(cx: Data<Context>, addresses: Data<Addresses>) -> impl Responder {
    Json(pairing::record(&cx, &addresses))
}

/// Enter the pairing code that a device shows, so that it may enroll into the fleet.
#[utoipa::path(tag = "devices", responses((status = 201, description = "The device may enroll", body = Paired)))]
#[post("/pairings")]
async fn enter_code(cx: Data<Context>, body: Json<Pair>) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(pairing::enter(&cx, &body).await?))
}

/// List the newest revision of each profile.
#[utoipa::path(tag = "profiles", responses((status = 200, description = "Revisions", body = Vec<ProfileRevision>)))]
#[get("/profiles")]
async fn list_profiles(cx: Data<Context>) -> Result<impl Responder> {
    Ok(Json(profiles::newest(&cx, LIST_MAX).await?))
}

/// Save a profile as the next revision of its line. An unchanged profile keeps its revision.
#[utoipa::path(tag = "profiles", responses((status = 201, description = "The revision", body = ProfileRevision)))]
#[post("/profiles")]
async fn save_profile(cx: Data<Context>, body: Json<Profile>) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(profiles::save(&cx, &body).await?))
}

/// List the newest revisions of a profile.
#[utoipa::path(tag = "profiles", responses((status = 200, description = "Revisions", body = Vec<ProfileRevision>)))]
#[get("/profiles/{line}/revisions")]
async fn list_revisions(cx: Data<Context>, line: Path<Line>) -> Result<impl Responder> {
    Ok(Json(profiles::of_line(&cx, &line, LIST_MAX).await?))
}

/// Get a revision of a profile.
#[utoipa::path(tag = "profiles", responses((status = 200, description = "The revision", body = ProfileRevision)))]
#[get("/profiles/{line}/revisions/{number}")]
async fn get_revision(cx: Data<Context>, path: Path<(Line, u32)>) -> Result<impl Responder> {
    Ok(Json(profiles::get(&cx, &path.0, path.1).await?))
}

/// List the newest builds.
#[utoipa::path(tag = "builds", responses((status = 200, description = "Builds", body = Vec<Build>)))]
#[get("/builds")]
async fn list_builds(cx: Data<Context>) -> Result<impl Responder> {
    Ok(Json(builds::newest(&cx, LIST_MAX).await?))
}

/// Queue a build.
#[utoipa::path(tag = "builds", responses((status = 201, description = "The build, queued for a worker", body = Build)))]
#[post("/builds")]
async fn create_build(cx: Data<Context>, body: Json<CreateBuild>) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(builds::create(&cx, &body).await?))
}

/// Get a build.
#[utoipa::path(tag = "builds", responses((status = 200, description = "The build", body = Build)))]
#[get("/builds/{build}")]
async fn get_build(cx: Data<Context>, id: Path<String>) -> Result<impl Responder> {
    Ok(Json(builds::get(&cx, &id).await?))
}

/// Sign a build and publish it as a release, if the signing service holds the release key and needs
/// no approvals.
#[utoipa::path(tag = "builds", responses((status = 202, description = "The build, queued for signing", body = Build)))]
#[post("/builds/{build}/sign")]
async fn sign_build(cx: Data<Context>, id: Path<String>) -> Result<impl Responder> {
    Ok(HttpResponse::Accepted().json(approvals::sign_alone(&cx, &id).await?))
}

/// Get the record of a build. Approvers sign the digest of exactly these bytes.
#[utoipa::path(tag = "builds", responses((status = 200, description = "build.json", body = String, content_type = "application/json")))]
#[get("/builds/{build}/record")]
async fn get_record(cx: Data<Context>, id: Path<String>) -> Result<impl Responder> {
    Ok(HttpResponse::Ok().content_type("application/json").body(approvals::record(&cx, &id).await?))
}

/// Get the approvals of a build: how many the signing service needs, who may give them, and who
/// did.
#[utoipa::path(tag = "builds", responses((status = 200, description = "The request and its approvals", body = SignatureStatus)))]
#[get("/builds/{build}/signature")]
async fn get_signature(cx: Data<Context>, id: Path<String>) -> Result<impl Responder> {
    Ok(Json(approvals::status(&cx, &id).await?))
}

/// Request the signature of a build, with the requester's own signature.
#[utoipa::path(tag = "builds", responses((status = 201, description = "The request, which waits for approvals", body = SignatureStatus)))]
#[post("/builds/{build}/signature")]
async fn request_signature(
    cx: Data<Context>,
    id: Path<String>,
    body: Json<RequestSignature>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(approvals::request(&cx, &id, &body).await?))
}

/// Approve a signing request, with the approver's own signature. The last approval that is needed
/// starts signing and publication.
#[utoipa::path(tag = "builds", responses((status = 201, description = "The request and its approvals", body = SignatureStatus)))]
#[post("/builds/{build}/approvals")]
async fn approve_signature(
    cx: Data<Context>,
    id: Path<String>,
    body: Json<SignedBy>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(approvals::approve(&cx, &id, &body).await?))
}

/// List the newest releases.
#[utoipa::path(tag = "releases", responses((status = 200, description = "Releases", body = Vec<Release>)))]
#[get("/releases")]
async fn list_releases(cx: Data<Context>) -> Result<impl Responder> {
    Ok(Json(releases::newest(&cx, LIST_MAX).await?))
}

/// Get a release.
#[utoipa::path(tag = "releases", responses((status = 200, description = "The release", body = Release)))]
#[get("/releases/{release}")]
async fn get_release(cx: Data<Context>, name: Path<ReleaseName>) -> Result<impl Responder> {
    Ok(Json(releases::get(&cx, &name).await?))
}

/// Verify an uploaded release and publish it. A published release never changes.
#[utoipa::path(tag = "releases", responses((status = 200, description = "The release", body = Release)))]
#[post("/releases/{release}/publish")]
async fn publish_release(cx: Data<Context>, name: Path<ReleaseName>) -> Result<impl Responder> {
    Ok(Json(releases::publish(&cx, &name).await?))
}

/// Add the boot proof of a release: a statement, signed by release keys, that a device booted it
/// and measured what its manifest predicts.
#[utoipa::path(tag = "releases", responses((status = 200, description = "The release", body = Release)))]
#[put("/releases/{release}/boot-proof")]
async fn prove_release(
    cx: Data<Context>,
    name: Path<ReleaseName>,
    body: Json<SignedBootProof>,
) -> Result<impl Responder> {
    Ok(Json(proof::add(&cx, &name, &body).await?))
}

/// Revoke a release. Its rollouts end, and no device gets it any more.
#[utoipa::path(tag = "releases", responses((status = 200, description = "The release", body = Release)))]
#[post("/releases/{release}/revoke")]
async fn revoke_release(cx: Data<Context>, name: Path<ReleaseName>) -> Result<impl Responder> {
    revoke::revoke(&cx, &name).await?;
    Ok(Json(releases::get(&cx, &name).await?))
}

/// Upload a file of a release that is not published yet.
#[utoipa::path(
    tag = "releases",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 204, description = "The file is stored"))
)]
#[put("/releases/{release}/files/{path:.*}")]
async fn upload_file(
    cx: Data<Context>,
    path: Path<(ReleaseName, String)>,
    mut body: Payload,
) -> Result<impl Responder> {
    let kept = releases::upload(&cx, &path.0, &path.1, &mut body).await;
    if kept.is_err() {
        extract::drain(body).await;
    }
    Ok(kept.map(|()| HttpResponse::NoContent())?)
}

/// List the newest rollouts.
#[utoipa::path(tag = "rollouts", responses((status = 200, description = "Rollouts, without their devices", body = Vec<RolloutSummary>)))]
#[get("/rollouts")]
async fn list_rollouts(cx: Data<Context>) -> Result<impl Responder> {
    Ok(Json(rollouts::summaries(&cx, LIST_MAX).await?))
}

/// Start a rollout. The devices of a large fleet join in chunks, while the rollout is `starting`.
#[utoipa::path(tag = "rollouts", responses((status = 201, description = "The rollout, without its devices", body = RolloutSummary)))]
#[post("/rollouts")]
async fn start_rollout(cx: Data<Context>, body: Json<CreateRollout>) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(rollouts::start(&cx, &body).await?))
}

/// Get a rollout, with a page of its devices.
#[utoipa::path(tag = "rollouts", params(RolloutQuery), responses((status = 200, description = "The rollout, with a page of its devices, ordered by id", body = Rollout)))]
#[get("/rollouts/{rollout}")]
async fn get_rollout(
    cx: Data<Context>,
    id: Path<String>,
    query: Query<RolloutQuery>,
) -> Result<impl Responder> {
    Ok(Json(rollouts::get(&cx, &id, &query).await?))
}

/// Abort a rollout. Devices that have not started the update keep what they run. The offers of a
/// large fleet are withdrawn in chunks, while the rollout is `aborting`.
#[utoipa::path(tag = "rollouts", responses((status = 200, description = "The rollout, without its devices", body = RolloutSummary)))]
#[post("/rollouts/{rollout}/abort")]
async fn abort_rollout(cx: Data<Context>, id: Path<String>) -> Result<impl Responder> {
    Ok(Json(rollouts::abort(&cx, &id).await?))
}

/// Watch changes as server-sent events, one for each change. A client that lags gets the event
/// `lagged` and must read the resources again.
#[utoipa::path(tag = "events", responses((status = 200, description = "The data of each event", body = Event, content_type = "text/event-stream")))]
#[get("/events")]
async fn events(cx: Data<Context>) -> impl Responder {
    // A first message, so that the client gets the head of the response.
    let first = futures::stream::once(async { [Message::KeepAlive] });
    let rest = futures::stream::unfold(cx.events.subscribe(), |mut events| async move {
        Some(([next_event(&mut events).await?], events))
    });
    sse::response(first.chain(rest))
}

async fn next_event(watcher: &mut Receiver<Event>) -> Option<Message> {
    Some(match tokio::time::timeout(KEEP_ALIVE, watcher.recv()).await {
        Ok(Ok(event)) => Message::plain(serde_json::to_string(&event).unwrap_or_default()),
        Ok(Err(RecvError::Lagged(_))) => Message::named("lagged", "{}"),
        Ok(Err(RecvError::Closed)) => return None,
        Err(_) => Message::KeepAlive,
    })
}
