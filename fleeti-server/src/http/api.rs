//! The API under `/api/v1`, for the holder of the administrator's token. Its OpenAPI document is
//! made of these very handlers and their types, and served at `/api/v1/openapi.json`.

use super::extract::Json;
use super::extract::{self, BodyMax};
use super::methods::head_as_get;
use super::{attestation, audit, openapi, recovery, vault, worker};
use crate::app::AppRef;
use crate::error::AppError;
use crate::server::Addresses;
use crate::service::devices::Filter;
use crate::service::{
    approvals, boot, boot_proof, builds, commands, devices, enrollment, pairing, releases,
    revisions, revocation, rollouts, sessions, trust,
};
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Data, Path, Payload, Query};
use actix_web::{HttpRequest, HttpResponse, Responder, get, post, put};
use fleeti_core::id::{DeviceId, FleetId, Line, ReleaseName};
use fleeti_core::profile::Profile;
use fleeti_core::wire::api::{
    Build, ChangeBoot, CommandStatus, CreateBuild, CreateCommand, CreateEnrollment, CreateRollout,
    Device, Enrollment, Event, Fleet, Forgive, ImportBundle, Pair, Paired, ProfileRevision,
    Provision, Provisioned, Release, RequestSignature, Revoke, Rollout, RolloutSummary,
    SignatureStatus, SignedBootProof, SignedBy, SwitchIssuer, TrustStatus,
};
use fleeti_core::wire::device::EnrollmentRecord;
use fleeti_core::wire::problem::Code;
use futures::StreamExt;
use serde::Deserialize;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use utoipa::IntoParams;
use utoipa_actix_web::service_config::ServiceConfig;

/// Largest JSON body.
const JSON_MAX: usize = 2 << 20;
const LIST_MAX: u32 = 200;
/// A stream of events is never silent for longer.
const KEEP_ALIVE: Duration = Duration::from_secs(25);

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

async fn authenticate(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> std::result::Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let app = request.app_data::<Data<AppRef>>();
    let given = request
        .headers()
        .get("authorization")
        .and_then(|h| h.to_str().ok()?.strip_prefix("Bearer "));
    let good =
        matches!((app, given), (Some(app), Some(given)) if sessions::is_admin_token(app, given));
    if !good {
        if let (Some(app), Some(_)) = (app, given) {
            sessions::api_refused(app, request.peer_addr().map(|a| a.ip())).await?;
        }
        let e = AppError::new(Code::Unauthenticated, "a bearer token is needed")
            .hint("send the token of DIR/admin.token");
        return Err(e.into());
    }
    next.call(request).await
}

/// Which intermediates count, which ones sign, and how many devices know.
#[utoipa::path(tag = "trust", responses((status = 200, description = "The trust bundle", body = TrustStatus)))]
#[get("/trust-bundle")]
async fn get_trust(app: Data<AppRef>) -> Result<impl Responder> {
    Ok(Json(trust::status(&app).await?))
}

/// Takes what came out of a ceremony of the root: a bundle of intermediates, and the transcript
/// that says how it was made.
#[utoipa::path(tag = "trust", responses((status = 201, description = "It counts from now on", body = TrustStatus)))]
#[post("/trust-bundle")]
async fn import_bundle(app: Data<AppRef>, body: Json<ImportBundle>) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(trust::import(&app, &body).await?))
}

/// Has another intermediate of the bundle sign from now on.
#[utoipa::path(tag = "trust", responses((status = 200, description = "It signs from now on", body = TrustStatus)))]
#[post("/trust-bundle/issuer")]
async fn switch_issuer(app: Data<AppRef>, body: Json<SwitchIssuer>) -> Result<impl Responder> {
    Ok(Json(trust::switch(&app, &body).await?))
}

/// Where a page of devices begins, and what is in it.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Page {
    /// The last id of the page before; empty for the first page.
    #[serde(default)]
    #[param(max_length = 64, pattern = "^([a-z0-9][a-z0-9-]*)?$")]
    after: String,
    /// Most devices of the page, 1 to 500; 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// Only devices of this fleet.
    fleet: Option<FleetId>,
}

/// A page of devices, ordered by id.
#[utoipa::path(tag = "devices", params(Page), responses((status = 200, description = "A page", body = Vec<Device>)))]
#[get("/devices")]
async fn list_devices(app: Data<AppRef>, page: Query<Page>) -> Result<impl Responder> {
    let filter = page.fleet.as_ref().map_or(Filter::All, Filter::Fleet);
    Ok(Json(devices::page(&app, filter, &page.after, page.limit.unwrap_or(100)).await?))
}

/// One device.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The device", body = Device)))]
#[get("/devices/{device}")]
async fn get_device(app: Data<AppRef>, device: Path<DeviceId>) -> Result<impl Responder> {
    Ok(Json(devices::get(&app, device.as_str()).await?))
}

/// A device's certificate, PEM.
#[utoipa::path(tag = "devices", responses((status = 200, description = "PEM", body = String, content_type = "application/pem-certificate-chain")))]
#[get("/devices/{device}/certificate")]
async fn get_certificate(app: Data<AppRef>, device: Path<DeviceId>) -> Result<impl Responder> {
    let pem = devices::certificate(&app, &device).await?;
    Ok(HttpResponse::Ok().content_type("application/pem-certificate-chain").body(pem))
}

/// Revokes a device's certificate and cuts the device off at once.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The device", body = Device)))]
#[post("/devices/{device}/revoke")]
async fn revoke_device(
    app: Data<AppRef>,
    device: Path<DeviceId>,
    body: Json<Revoke>,
) -> Result<impl Responder> {
    revocation::revoke(&app, &device, body.reason).await?;
    Ok(Json(devices::get(&app, device.as_str()).await?))
}

/// Takes back a revocation that was a hold.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The device", body = Device)))]
#[post("/devices/{device}/release-hold")]
async fn release_hold(app: Data<AppRef>, device: Path<DeviceId>) -> Result<impl Responder> {
    revocation::release_hold(&app, &device).await?;
    Ok(Json(devices::get(&app, device.as_str()).await?))
}

/// Changes the Secure Boot keys of a device; it makes the change when it hears of it.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The device", body = Device)))]
#[post("/devices/{device}/boot-keys")]
async fn change_boot(
    app: Data<AppRef>,
    device: Path<DeviceId>,
    body: Json<ChangeBoot>,
) -> Result<impl Responder> {
    boot::change(&app, &device, &body).await?;
    Ok(Json(devices::get(&app, device.as_str()).await?))
}

/// Lets a device try a version again that was rolled back on it.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The device", body = Device)))]
#[post("/devices/{device}/forgive")]
async fn forgive_device(
    app: Data<AppRef>,
    device: Path<DeviceId>,
    body: Json<Forgive>,
) -> Result<impl Responder> {
    devices::forgive(&app, &device, &body.version).await?;
    Ok(Json(devices::get(&app, device.as_str()).await?))
}

/// Puts a command into a device's mailbox.
#[utoipa::path(tag = "commands", responses((status = 201, description = "The command waits", body = CommandStatus)))]
#[post("/devices/{device}/commands")]
async fn create_command(
    app: Data<AppRef>,
    device: Path<DeviceId>,
    body: Json<CreateCommand>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(commands::create(&app, &device, &body).await?))
}

/// What became of a command.
#[utoipa::path(tag = "commands", responses((status = 200, description = "The command", body = CommandStatus)))]
#[get("/commands/{command}")]
async fn get_command(app: Data<AppRef>, command: Path<String>) -> Result<impl Responder> {
    Ok(Json(commands::get(&app, &command).await?))
}

/// Every fleet that a device has enrolled in.
#[utoipa::path(tag = "devices", responses((status = 200, description = "Fleets", body = Vec<Fleet>)))]
#[get("/fleets")]
async fn list_fleets(app: Data<AppRef>) -> Result<impl Responder> {
    Ok(Json(devices::fleets(&app).await?))
}

/// Makes a one-time enrollment token; the answer is the only place where it can be seen.
#[utoipa::path(tag = "devices", responses((status = 201, description = "The enrollment record", body = Enrollment)))]
#[post("/fleets/{fleet}/enrollments")]
async fn create_enrollment(
    app: Data<AppRef>,
    addresses: Data<Addresses>,
    fleet: Path<FleetId>,
    body: Json<CreateEnrollment>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(enrollment::create(&app, &fleet, &body, &addresses).await?))
}

/// Makes the record of a device that is about to be made: its id, its token, its Secure Boot keys.
/// The answer is the only place where the token can be seen.
#[utoipa::path(tag = "devices", responses((status = 201, description = "What its disk is made with", body = Provisioned)))]
#[post("/fleets/{fleet}/devices")]
async fn provision_device(
    app: Data<AppRef>,
    addresses: Data<Addresses>,
    fleet: Path<FleetId>,
    body: Json<Provision>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(boot::provision(&app, &fleet, &body, &addresses).await?))
}

/// What a device must be told that has no token: it shows a code, and somebody enters it.
#[utoipa::path(tag = "devices", responses((status = 200, description = "The enrollment record", body = EnrollmentRecord)))]
#[get("/enrollment-record")]
async fn get_record_without_token(app: Data<AppRef>, addresses: Data<Addresses>) -> impl Responder {
    Json(pairing::record(&app, &addresses))
}

/// Enters the code that a device shows: it enrolls into the fleet.
#[utoipa::path(tag = "devices", responses((status = 201, description = "The device may enroll", body = Paired)))]
#[post("/pairings")]
async fn enter_code(app: Data<AppRef>, body: Json<Pair>) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(pairing::enter(&app, &body).await?))
}

/// The newest revision of each profile.
#[utoipa::path(tag = "profiles", responses((status = 200, description = "Revisions", body = Vec<ProfileRevision>)))]
#[get("/profiles")]
async fn list_profiles(app: Data<AppRef>) -> Result<impl Responder> {
    Ok(Json(revisions::newest(&app, LIST_MAX).await?))
}

/// Saves a profile as the next revision of its line; the same document is the same revision.
#[utoipa::path(tag = "profiles", responses((status = 201, description = "The revision", body = ProfileRevision)))]
#[post("/profiles")]
async fn save_profile(app: Data<AppRef>, body: Json<Profile>) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(revisions::save(&app, &body).await?))
}

/// The newest revisions of a profile.
#[utoipa::path(tag = "profiles", responses((status = 200, description = "Revisions", body = Vec<ProfileRevision>)))]
#[get("/profiles/{line}/revisions")]
async fn list_revisions(app: Data<AppRef>, line: Path<Line>) -> Result<impl Responder> {
    Ok(Json(revisions::of_line(&app, &line, LIST_MAX).await?))
}

/// One revision of a profile.
#[utoipa::path(tag = "profiles", responses((status = 200, description = "The revision", body = ProfileRevision)))]
#[get("/profiles/{line}/revisions/{number}")]
async fn get_revision(app: Data<AppRef>, path: Path<(Line, u32)>) -> Result<impl Responder> {
    Ok(Json(revisions::get(&app, &path.0, path.1).await?))
}

/// The newest builds.
#[utoipa::path(tag = "builds", responses((status = 200, description = "Builds", body = Vec<Build>)))]
#[get("/builds")]
async fn list_builds(app: Data<AppRef>) -> Result<impl Responder> {
    Ok(Json(builds::newest(&app, LIST_MAX).await?))
}

/// Queues a build.
#[utoipa::path(tag = "builds", responses((status = 201, description = "The build waits for a worker", body = Build)))]
#[post("/builds")]
async fn create_build(app: Data<AppRef>, body: Json<CreateBuild>) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(builds::create(&app, &body).await?))
}

/// One build.
#[utoipa::path(tag = "builds", responses((status = 200, description = "The build", body = Build)))]
#[get("/builds/{build}")]
async fn get_build(app: Data<AppRef>, id: Path<String>) -> Result<impl Responder> {
    Ok(Json(builds::get(&app, &id).await?))
}

/// Has the server sign a build and publish it, where the release key is on the server.
#[utoipa::path(tag = "builds", responses((status = 202, description = "The build waits for its signature", body = Build)))]
#[post("/builds/{build}/sign")]
async fn sign_build(app: Data<AppRef>, id: Path<String>) -> Result<impl Responder> {
    Ok(HttpResponse::Accepted().json(approvals::sign_alone(&app, &id).await?))
}

/// The record of a build, as it lies on the server: what people approve is the digest of these
/// bytes.
#[utoipa::path(tag = "builds", responses((status = 200, description = "build.json", body = String, content_type = "application/json")))]
#[get("/builds/{build}/record")]
async fn get_record(app: Data<AppRef>, id: Path<String>) -> Result<impl Responder> {
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .body(approvals::record(&app, &id).await?))
}

/// Whose word is needed before this server's keys sign a build, and whose is there.
#[utoipa::path(tag = "builds", responses((status = 200, description = "The request and its approvals", body = SignatureStatus)))]
#[get("/builds/{build}/signature")]
async fn get_signature(app: Data<AppRef>, id: Path<String>) -> Result<impl Responder> {
    Ok(Json(approvals::status(&app, &id).await?))
}

/// A person asks for a signature, with a signature of their own.
#[utoipa::path(tag = "builds", responses((status = 201, description = "It waits for approvals", body = SignatureStatus)))]
#[post("/builds/{build}/signature")]
async fn request_signature(
    app: Data<AppRef>,
    id: Path<String>,
    body: Json<RequestSignature>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(approvals::request(&app, &id, &body).await?))
}

/// A person agrees, with a signature of their own; with the last one that is needed the build is
/// signed and published.
#[utoipa::path(tag = "builds", responses((status = 201, description = "The request and its approvals", body = SignatureStatus)))]
#[post("/builds/{build}/approvals")]
async fn approve_signature(
    app: Data<AppRef>,
    id: Path<String>,
    body: Json<SignedBy>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(approvals::approve(&app, &id, &body).await?))
}

/// The newest releases.
#[utoipa::path(tag = "releases", responses((status = 200, description = "Releases", body = Vec<Release>)))]
#[get("/releases")]
async fn list_releases(app: Data<AppRef>) -> Result<impl Responder> {
    Ok(Json(releases::newest(&app, LIST_MAX).await?))
}

/// One release.
#[utoipa::path(tag = "releases", responses((status = 200, description = "The release", body = Release)))]
#[get("/releases/{release}")]
async fn get_release(app: Data<AppRef>, name: Path<ReleaseName>) -> Result<impl Responder> {
    Ok(Json(releases::get(&app, &name).await?))
}

/// Verifies what was uploaded and publishes it; from then on it never changes.
#[utoipa::path(tag = "releases", responses((status = 200, description = "The release", body = Release)))]
#[post("/releases/{release}/publish")]
async fn publish_release(app: Data<AppRef>, name: Path<ReleaseName>) -> Result<impl Responder> {
    Ok(Json(releases::publish(&app, &name).await?))
}

/// Takes the proof that a release boots as it promises: a device has started it, and release keys
/// say so.
#[utoipa::path(tag = "releases", responses((status = 200, description = "The release", body = Release)))]
#[put("/releases/{release}/boot-proof")]
async fn prove_release(
    app: Data<AppRef>,
    name: Path<ReleaseName>,
    body: Json<SignedBootProof>,
) -> Result<impl Responder> {
    Ok(Json(boot_proof::add(&app, &name, &body).await?))
}

/// Revokes a release: its rollouts end, and no device gets it any more.
#[utoipa::path(tag = "releases", responses((status = 200, description = "The release", body = Release)))]
#[post("/releases/{release}/revoke")]
async fn revoke_release(app: Data<AppRef>, name: Path<ReleaseName>) -> Result<impl Responder> {
    rollouts::revoke_release(&app, &name).await?;
    Ok(Json(releases::get(&app, &name).await?))
}

/// Takes one file of a release that is not published yet.
#[utoipa::path(
    tag = "releases",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 204, description = "The file is kept"))
)]
#[put("/releases/{release}/files/{path:.*}")]
async fn upload_file(
    app: Data<AppRef>,
    path: Path<(ReleaseName, String)>,
    mut body: Payload,
) -> Result<impl Responder> {
    let kept = releases::upload(&app, &path.0, &path.1, &mut body).await;
    if kept.is_err() {
        extract::drain(body).await;
    }
    kept.map(|()| HttpResponse::NoContent())
}

/// The newest rollouts.
#[utoipa::path(tag = "rollouts", responses((status = 200, description = "Rollouts, without their devices", body = Vec<RolloutSummary>)))]
#[get("/rollouts")]
async fn list_rollouts(app: Data<AppRef>) -> Result<impl Responder> {
    Ok(Json(rollouts::summaries(&app, LIST_MAX).await?))
}

/// Starts a rollout.
#[utoipa::path(tag = "rollouts", responses((status = 201, description = "The rollout runs", body = Rollout)))]
#[post("/rollouts")]
async fn start_rollout(app: Data<AppRef>, body: Json<CreateRollout>) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(rollouts::start(&app, &body).await?))
}

/// One rollout.
#[utoipa::path(tag = "rollouts", responses((status = 200, description = "The rollout", body = Rollout)))]
#[get("/rollouts/{rollout}")]
async fn get_rollout(app: Data<AppRef>, id: Path<String>) -> Result<impl Responder> {
    Ok(Json(rollouts::get(&app, &id).await?))
}

/// Stops a rollout; devices that have not begun keep what they run.
#[utoipa::path(tag = "rollouts", responses((status = 200, description = "The rollout", body = Rollout)))]
#[post("/rollouts/{rollout}/abort")]
async fn abort_rollout(app: Data<AppRef>, id: Path<String>) -> Result<impl Responder> {
    Ok(Json(rollouts::abort(&app, &id).await?))
}

/// Server-sent events: one for each thing that changed. A watcher that lags is told so and reads
/// anew.
#[utoipa::path(tag = "events", responses((status = 200, description = "Each event's data", body = Event, content_type = "text/event-stream")))]
#[get("/events")]
async fn events(app: Data<AppRef>) -> impl Responder {
    let first = futures::stream::once(async { ": welcome\n\n".to_owned() });
    let rest = futures::stream::unfold(app.events.subscribe(), |mut events| async move {
        Some((next_event(&mut events).await?, events))
    });
    let stream = first.chain(rest).map(|text| Ok::<_, actix_web::Error>(web::Bytes::from(text)));
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-store"))
        .streaming(stream)
}

async fn next_event(watcher: &mut Receiver<Event>) -> Option<String> {
    Some(match tokio::time::timeout(KEEP_ALIVE, watcher.recv()).await {
        Ok(Ok(event)) => format!("data: {}\n\n", serde_json::to_string(&event).unwrap_or_default()),
        Ok(Err(RecvError::Lagged(_))) => "event: lagged\ndata: {}\n\n".to_owned(),
        Ok(Err(RecvError::Closed)) => return None,
        // Who is gone is noticed when something is written, and no proxy thinks that we are.
        Err(_) => ": still here\n\n".to_owned(),
    })
}
