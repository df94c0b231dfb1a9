//! The API under `/api/v1`, for the holder of the administrator's token.

use crate::app::AppRef;
use crate::db;
use crate::error::AppError;
use crate::server::Addresses;
use crate::service::{builds, commands, devices, enrollment, releases, revocation, rollouts};
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::{JsonPayloadError, PathError, QueryPayloadError};
use actix_web::middleware::Next;
use actix_web::web::{self, Data, Json, Path, Payload, Query, ServiceConfig};
use actix_web::{HttpResponse, Responder};
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::wire::api::{CreateBuild, CreateCommand, CreateEnrollment, CreateRollout, Forgive};
use fleeti_core::wire::problem::Code;
use futures::StreamExt;
use serde::Deserialize;
use tokio_stream::wrappers::BroadcastStream;

/// Largest JSON body.
const JSON_MAX: usize = 2 << 20;
const LIST_MAX: u32 = 200;

type Result<T> = std::result::Result<T, AppError>;

/// The one list of routes.
pub fn routes(config: &mut ServiceConfig) {
    let invalid = |detail: String| AppError::new(Code::Invalid, detail);
    config
        .app_data(web::JsonConfig::default().limit(JSON_MAX).error_handler(move |e: JsonPayloadError, _| invalid(e.to_string()).into()))
        .app_data(web::PathConfig::default().error_handler(move |e: PathError, _| invalid(e.to_string()).into()))
        .app_data(web::QueryConfig::default().error_handler(move |e: QueryPayloadError, _| invalid(e.to_string()).into()))
        .route("/livez", web::get().to(|| async { "ok\n" }))
        .route("/readyz", web::get().to(readyz))
        .service(
            web::scope("/api/v1")
                .wrap(actix_web::middleware::from_fn(authenticate))
                .route("/devices", web::get().to(list_devices))
                .route("/devices/{device}", web::get().to(get_device))
                .route("/devices/{device}/certificate", web::get().to(get_certificate))
                .route("/devices/{device}/revoke", web::post().to(revoke_device))
                .route("/devices/{device}/forgive", web::post().to(forgive_device))
                .route("/devices/{device}/commands", web::post().to(create_command))
                .route("/commands/{command}", web::get().to(get_command))
                .route("/fleets/{fleet}/enrollments", web::post().to(create_enrollment))
                .route("/releases", web::get().to(list_releases))
                .route("/releases/{release}", web::get().to(get_release))
                .route("/releases/{release}/publish", web::post().to(publish_release))
                .route("/releases/{release}/files/{path:.*}", web::put().to(upload_file))
                .route("/rollouts", web::get().to(list_rollouts))
                .route("/rollouts", web::post().to(start_rollout))
                .route("/rollouts/{rollout}", web::get().to(get_rollout))
                .route("/rollouts/{rollout}/abort", web::post().to(abort_rollout))
                .route("/builds", web::get().to(list_builds))
                .route("/builds", web::post().to(create_build))
                .route("/builds/{build}", web::get().to(get_build))
                .route("/events", web::get().to(events)),
        )
        .default_service(web::to(|| async { Err::<HttpResponse, _>(AppError::new(Code::NotFound, "there is nothing here")) }));
}

async fn authenticate(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> std::result::Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let app = request.app_data::<Data<AppRef>>();
    let given = request.headers().get("authorization").and_then(|h| h.to_str().ok()?.strip_prefix("Bearer "));
    // Digests are compared, so the time says nothing about the token.
    let digest = |s: &str| fleeti_core::canonical::sha256_hex(s.as_bytes());
    let good = matches!((app, given), (Some(app), Some(given)) if digest(given) == digest(&app.admin_token));
    if !good {
        let e = AppError::new(Code::Unauthenticated, "a bearer token is needed").hint("send the token of DIR/admin.token");
        return Err(e.into());
    }
    next.call(request).await
}

async fn readyz(app: Data<AppRef>) -> Result<&'static str> {
    db::releases::newest(app.db.pool(), 1).await?;
    Ok("ok\n")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    #[serde(default)]
    after: String,
    limit: Option<u32>,
}

async fn list_devices(app: Data<AppRef>, page: Query<Page>) -> Result<impl Responder> {
    Ok(Json(devices::page(&app, &page.after, page.limit.unwrap_or(100)).await?))
}
async fn get_device(app: Data<AppRef>, device: Path<DeviceId>) -> Result<impl Responder> {
    Ok(Json(devices::get(&app, device.as_str()).await?))
}
async fn get_certificate(app: Data<AppRef>, device: Path<DeviceId>) -> Result<impl Responder> {
    let pem = db::devices::certificate(app.db.pool(), &device).await?;
    let pem = pem.ok_or_else(|| AppError::not_found("device", device.as_str()))?;
    Ok(HttpResponse::Ok().content_type("application/pem-certificate-chain").body(pem))
}
async fn revoke_device(app: Data<AppRef>, device: Path<DeviceId>) -> Result<impl Responder> {
    revocation::revoke(&app, &device).await?;
    Ok(Json(devices::get(&app, device.as_str()).await?))
}
async fn forgive_device(app: Data<AppRef>, device: Path<DeviceId>, body: Json<Forgive>) -> Result<impl Responder> {
    devices::forgive(&app, &device, &body.version).await?;
    Ok(Json(devices::get(&app, device.as_str()).await?))
}
async fn create_command(app: Data<AppRef>, device: Path<DeviceId>, body: Json<CreateCommand>) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(commands::create(&app, &device, &body).await?))
}
async fn get_command(app: Data<AppRef>, command: Path<String>) -> Result<impl Responder> {
    let found = db::commands::get(app.db.pool(), &command).await?;
    Ok(Json(found.ok_or_else(|| AppError::not_found("command", &command))?))
}
async fn create_enrollment(
    app: Data<AppRef>,
    addresses: Data<Addresses>,
    fleet: Path<FleetId>,
    body: Json<CreateEnrollment>,
) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(enrollment::create(&app, &fleet, &body, &addresses).await?))
}
async fn list_releases(app: Data<AppRef>) -> Result<impl Responder> {
    Ok(Json(db::releases::newest(app.db.pool(), LIST_MAX).await?))
}
async fn get_release(app: Data<AppRef>, name: Path<ReleaseName>) -> Result<impl Responder> {
    let found = db::releases::get(app.db.pool(), &name).await?;
    Ok(Json(found.ok_or_else(|| AppError::not_found("release", &name.to_string()))?))
}
async fn publish_release(app: Data<AppRef>, name: Path<ReleaseName>) -> Result<impl Responder> {
    Ok(Json(releases::publish(&app, &name).await?))
}
async fn upload_file(app: Data<AppRef>, path: Path<(ReleaseName, String)>, body: Payload) -> Result<impl Responder> {
    releases::upload(&app, &path.0, &path.1, body).await?;
    Ok(HttpResponse::NoContent())
}
async fn list_rollouts(app: Data<AppRef>) -> Result<impl Responder> {
    Ok(Json(db::rollouts::newest(app.db.pool(), LIST_MAX).await?))
}
async fn start_rollout(app: Data<AppRef>, body: Json<CreateRollout>) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(rollouts::start(&app, &body).await?))
}
async fn get_rollout(app: Data<AppRef>, id: Path<String>) -> Result<impl Responder> {
    Ok(Json(rollouts::get(&app, &id).await?))
}
async fn abort_rollout(app: Data<AppRef>, id: Path<String>) -> Result<impl Responder> {
    Ok(Json(rollouts::abort(&app, &id).await?))
}
async fn list_builds(app: Data<AppRef>) -> Result<impl Responder> {
    Ok(Json(db::builds::newest(app.db.pool(), LIST_MAX).await?))
}
async fn create_build(app: Data<AppRef>, body: Json<CreateBuild>) -> Result<impl Responder> {
    Ok(HttpResponse::Created().json(builds::create(&app, &body).await?))
}
async fn get_build(app: Data<AppRef>, id: Path<String>) -> Result<impl Responder> {
    Ok(Json(builds::get(&app, &id).await?))
}

/// Server-sent events: one for each thing that changed. A watcher that lags is told so and reads anew.
async fn events(app: Data<AppRef>) -> impl Responder {
    let first = futures::stream::once(async { Ok(web::Bytes::from_static(b": welcome\n\n")) });
    let stream = BroadcastStream::new(app.events.subscribe()).map(|event| {
        let text = match event {
            Ok(event) => format!("data: {}\n\n", serde_json::to_string(&event).unwrap_or_default()),
            Err(_) => "event: lagged\ndata: {}\n\n".to_owned(),
        };
        Ok::<_, actix_web::Error>(web::Bytes::from(text))
    });
    HttpResponse::Ok().content_type("text/event-stream").insert_header(("cache-control", "no-store")).streaming(first.chain(stream))
}
