//! The device port: TLS with an optional certificate. Only `/enroll` may be anonymous; a device gets only the
//! release that it was granted.

use crate::app::AppRef;
use crate::db;
use crate::error::AppError;
use crate::service::{devices, enrollment, releases};
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use actix_web::web::{self, Bytes, Data, Json, Path, ServiceConfig};
use actix_web::{FromRequest, HttpRequest, HttpResponse, Responder, dev};
use fleeti_core::id::{DeviceId, Line, ReleaseName, Version};
use fleeti_core::manifest::is_artifact_path;
use fleeti_core::wire::device::{EnrollRequest, RenewRequest};
use fleeti_core::wire::problem::Code;
use fleeti_pki::certificate;
use std::any::Any;
use std::pin::Pin;
use std::task::{Context, Poll};

type Result<T> = std::result::Result<T, AppError>;

/// The one list of routes.
pub fn routes(config: &mut ServiceConfig) {
    config
        .app_data(web::JsonConfig::default().limit(64 * 1024).error_handler(|e, _| AppError::new(Code::Invalid, e.to_string()).into()))
        .app_data(web::PathConfig::default().error_handler(|e, _| AppError::new(Code::Invalid, e.to_string()).into()))
        .route("/enroll", web::post().to(enroll))
        .route("/renew", web::post().to(renew))
        .route("/desired", web::get().to(desired))
        .route("/releases/{line}/{version}/manifest.json", web::get().to(manifest))
        .route("/releases/{line}/{version}/signatures.json", web::get().to(signatures))
        .route("/releases/{line}/{version}/{file:.*}", web::get().to(artifact))
        .route("/releases/{line}/{version}/{file:.*}", web::head().to(artifact))
        .default_service(web::to(|| async { Err::<HttpResponse, _>(AppError::new(Code::NotFound, "there is nothing here")) }));
}

/// A certificate that TLS has verified, by connection.
struct PeerCertificate {
    device: DeviceId,
    key_sha256: String,
}

/// Reads the verified certificate, once for each connection.
pub fn on_connect(connection: &dyn Any, extensions: &mut Extensions) {
    let Some(stream) = connection.downcast_ref::<TlsStream<TcpStream>>() else { return };
    let Some(leaf) = stream.get_ref().1.peer_certificates().and_then(|c| c.first()) else { return };
    if let Ok(leaf) = certificate::from_der(leaf)
        && let (Ok(device), Ok(key_sha256)) = (certificate::device_of(&leaf), certificate::key_sha256(&leaf))
    {
        extensions.insert(PeerCertificate { device, key_sha256 });
    }
}

/// A device that is known, not revoked, and speaks with the key that it enrolled with. The only place that makes one.
pub struct AuthenticatedDevice(DeviceId);

impl FromRequest for AuthenticatedDevice {
    type Error = AppError;
    type Future = Pin<Box<dyn Future<Output = Result<Self>>>>;
    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let peer = request.conn_data::<PeerCertificate>().map(|p| (p.device.clone(), p.key_sha256.clone()));
        let app = request.app_data::<Data<AppRef>>().cloned();
        Box::pin(async move {
            let (Some((device, key_sha256)), Some(app)) = (peer, app) else {
                return Err(AppError::new(Code::Unauthenticated, "a device certificate is needed"));
            };
            if app.tls.is_revoked(&device) || !db::devices::may_connect(app.db.pool(), &device, &key_sha256).await? {
                return Err(AppError::new(Code::Forbidden, "this device is revoked, or its key was replaced"));
            }
            Ok(Self(device))
        })
    }
}

async fn enroll(app: Data<AppRef>, body: Json<EnrollRequest>) -> Result<impl Responder> {
    Ok(Json(enrollment::enroll(&app, &body).await?))
}

async fn renew(app: Data<AppRef>, device: AuthenticatedDevice, body: Json<RenewRequest>) -> Result<impl Responder> {
    Ok(Json(enrollment::renew(&app, &device.0, &body).await?))
}

async fn desired(app: Data<AppRef>, device: AuthenticatedDevice) -> Result<impl Responder> {
    Ok(Json(devices::desired(&app, &device.0).await?))
}

type ReleasePath = Path<(Line, Version)>;

async fn granted(app: &AppRef, device: &DeviceId, line: &Line, version: &Version) -> Result<ReleaseName> {
    let asked = ReleaseName { line: line.clone(), version: version.clone() };
    match devices::desired(app, device).await?.release {
        Some(release) if release == asked => Ok(release),
        _ => Err(AppError::new(Code::Forbidden, format!("{asked} was not granted to this device"))),
    }
}

async fn documents(app: &AppRef, device: &DeviceId, path: &ReleasePath) -> Result<(String, String)> {
    let name = granted(app, device, &path.0, &path.1).await?;
    db::releases::documents(app.db.pool(), &name).await?.ok_or_else(|| AppError::not_found("release", &name.to_string()))
}

async fn manifest(app: Data<AppRef>, device: AuthenticatedDevice, path: ReleasePath) -> Result<impl Responder> {
    Ok(HttpResponse::Ok().content_type("application/json").body(documents(&app, &device.0, &path).await?.0))
}

async fn signatures(app: Data<AppRef>, device: AuthenticatedDevice, path: ReleasePath) -> Result<impl Responder> {
    Ok(HttpResponse::Ok().content_type("application/json").body(documents(&app, &device.0, &path).await?.1))
}

/// Streams a file, with Range and ETag.
async fn artifact(
    request: HttpRequest,
    app: Data<AppRef>,
    device: AuthenticatedDevice,
    path: Path<(Line, Version, String)>,
) -> Result<HttpResponse> {
    let (line, version, file) = path.into_inner();
    let name = granted(&app, &device.0, &line, &version).await?;
    if !is_artifact_path(&file) {
        return Err(AppError::new(Code::NotFound, format!("{file:?} is no file of a release")));
    }
    let path = releases::directory(&app, &name).join(&file);
    let opened = actix_files::NamedFile::open_async(&path).await.map_err(|_| AppError::not_found("file", &file))?;
    let response = opened.use_last_modified(false).disable_content_disposition().into_response(&request);
    let guard = Guarded { app: app.get_ref().clone(), device: device.0, body: Box::pin(BoxBody::new(())) };
    Ok(response.map_body(|_, body| BoxBody::new(Guarded { body: Box::pin(body), ..guard })))
}

/// A body that breaks off when its device is revoked.
struct Guarded {
    app: AppRef,
    device: DeviceId,
    body: Pin<Box<BoxBody>>,
}

impl MessageBody for Guarded {
    type Error = Box<dyn std::error::Error>;
    fn size(&self) -> BodySize {
        self.body.size()
    }
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<std::result::Result<Bytes, Self::Error>>> {
        if self.app.tls.is_revoked(&self.device) {
            return Poll::Ready(Some(Err("revoked".into())));
        }
        self.body.as_mut().poll_next(cx)
    }
}
