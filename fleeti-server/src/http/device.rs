//! The device port: TLS with an optional certificate. Only `/enroll` may be anonymous; a device gets only the
//! release that it was granted.

use crate::app::AppRef;
use crate::db;
use crate::error::AppError;
use crate::service::releases::Documents;
use crate::service::{devices, enrollment, releases};
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::body::{BodySize, BoxBody, MessageBody, SizedStream};
use actix_web::dev::Extensions;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::rt::net::TcpStream;
use actix_web::web::{self, Bytes, Data, Json, Path, ServiceConfig};
use actix_web::{FromRequest, HttpRequest, HttpResponse, Responder, dev};
use fleeti_core::id::{DeviceId, Line, ReleaseName, Version};
use fleeti_core::manifest::is_artifact_path;
use fleeti_core::wire::device::{EnrollRequest, RenewRequest};
use fleeti_core::wire::problem::Code;
use fleeti_pki::certificate;
use std::any::Any;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::task::JoinHandle;

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

/// A certificate that TLS has verified, by connection, and what was found out about its device.
struct PeerCertificate {
    device: DeviceId,
    key_sha256: String,
    known: Mutex<Option<Known>>,
}

/// What the database said of a device, and when: it holds until any grant changes.
#[derive(Clone)]
struct Known {
    epoch: u64,
    granted: Option<ReleaseName>,
}

/// Reads the verified certificate, once for each connection.
pub fn on_connect(connection: &dyn Any, extensions: &mut Extensions) {
    let Some(stream) = connection.downcast_ref::<TlsStream<TcpStream>>() else { return };
    let Some(leaf) = stream.get_ref().1.peer_certificates().and_then(|c| c.first()) else { return };
    if let Ok(leaf) = certificate::from_der(leaf)
        && let (Ok(device), Ok(key_sha256)) = (certificate::device_of(&leaf), certificate::key_sha256(&leaf))
    {
        extensions.insert(Arc::new(PeerCertificate { device, key_sha256, known: Mutex::default() }));
    }
}

/// A device that is known, not revoked, and speaks with the key that it enrolled with. The only place that makes one.
pub struct AuthenticatedDevice {
    id: DeviceId,
    granted: Option<ReleaseName>,
}

impl FromRequest for AuthenticatedDevice {
    type Error = AppError;
    type Future = Pin<Box<dyn Future<Output = Result<Self>>>>;
    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let peer = request.conn_data::<Arc<PeerCertificate>>().cloned();
        let app = request.app_data::<Data<AppRef>>().cloned();
        Box::pin(async move {
            let (Some(peer), Some(app)) = (peer, app) else {
                return Err(AppError::new(Code::Unauthenticated, "a device certificate is needed"));
            };
            let id = peer.device.clone();
            let refused = || AppError::new(Code::Forbidden, "this device is revoked, or its key was replaced");
            if app.tls.is_revoked(&id) {
                return Err(refused());
            }
            // The epoch first: what changes while the database is asked makes the answer stale.
            let epoch = app.grants.epoch();
            let known = peer.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(known) = known.filter(|k| k.epoch == epoch) {
                return Ok(Self { id, granted: known.granted });
            }
            if !db::devices::may_connect(app.db.pool(), &id, &peer.key_sha256).await? {
                return Err(refused());
            }
            let granted = devices::desired(&app, &id).await?.release;
            *peer.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(Known { epoch, granted: granted.clone() });
            Ok(Self { id, granted })
        })
    }
}

async fn enroll(app: Data<AppRef>, body: Json<EnrollRequest>) -> Result<impl Responder> {
    Ok(Json(enrollment::enroll(&app, &body).await?))
}

async fn renew(app: Data<AppRef>, device: AuthenticatedDevice, body: Json<RenewRequest>) -> Result<impl Responder> {
    Ok(Json(enrollment::renew(&app, &device.id, &body).await?))
}

async fn desired(app: Data<AppRef>, device: AuthenticatedDevice) -> Result<impl Responder> {
    Ok(Json(devices::desired(&app, &device.id).await?))
}

type ReleasePath = Path<(Line, Version)>;

fn granted(device: &AuthenticatedDevice, line: &Line, version: &Version) -> Result<ReleaseName> {
    let asked = ReleaseName { line: line.clone(), version: version.clone() };
    match &device.granted {
        Some(release) if *release == asked => Ok(asked),
        _ => Err(AppError::new(Code::Forbidden, format!("{asked} was not granted to this device"))),
    }
}

async fn documents(app: &AppRef, device: &AuthenticatedDevice, path: &ReleasePath) -> Result<Arc<Documents>> {
    releases::documents(app, &granted(device, &path.0, &path.1)?).await
}

async fn manifest(app: Data<AppRef>, device: AuthenticatedDevice, path: ReleasePath) -> Result<impl Responder> {
    Ok(HttpResponse::Ok().content_type("application/json").body(documents(&app, &device, &path).await?.manifest.clone()))
}

async fn signatures(app: Data<AppRef>, device: AuthenticatedDevice, path: ReleasePath) -> Result<impl Responder> {
    Ok(HttpResponse::Ok().content_type("application/json").body(documents(&app, &device, &path).await?.signatures.clone()))
}

/// Streams a file, with Range and ETag.
async fn artifact(
    request: HttpRequest,
    app: Data<AppRef>,
    device: AuthenticatedDevice,
    path: Path<(Line, Version, String)>,
) -> Result<HttpResponse> {
    let (line, version, file) = path.into_inner();
    let name = granted(&device, &line, &version)?;
    if !is_artifact_path(&file) {
        return Err(AppError::new(Code::NotFound, format!("{file:?} is no file of a release")));
    }
    let path = releases::directory(&app, &name).join(&file);
    let opened = actix_files::NamedFile::open_async(&path).await.map_err(|_| AppError::not_found("file", &file))?;
    let content = Arc::new(opened.file().try_clone()?);
    // Its headers are right: ETag, Range, conditions. Its body reads in small pieces.
    let response = opened.use_last_modified(false).disable_content_disposition().into_response(&request);
    let app = app.get_ref().clone();
    let is_head = request.method() == Method::HEAD;
    Ok(response.map_body(|head, body| match body.size() {
        // Only its size: a body that is not sent is read all the same.
        BodySize::Sized(size) if is_head => BoxBody::new(SizedStream::new(size, futures::stream::empty::<std::io::Result<Bytes>>())),
        BodySize::Sized(size) if size > 0 => {
            let at = first_byte(head.headers().get(header::CONTENT_RANGE));
            BoxBody::new(FileBody { app, device: device.id, content, at, end: at + size, reading: None })
        }
        _ => body,
    }))
}

/// Where a part begins, as in `bytes 100-199/300`.
fn first_byte(content_range: Option<&HeaderValue>) -> u64 {
    let text = content_range.and_then(|v| v.to_str().ok()?.strip_prefix("bytes "));
    text.and_then(|t| t.split('-').next()?.parse().ok()).unwrap_or(0)
}

/// Bytes that are read at once.
const READ: u64 = 256 * 1024;

/// A part of a file that is read while it is sent, and breaks off when its device is revoked.
struct FileBody {
    app: AppRef,
    device: DeviceId,
    content: Arc<std::fs::File>,
    at: u64,
    end: u64,
    reading: Option<JoinHandle<std::io::Result<Vec<u8>>>>,
}

impl MessageBody for FileBody {
    type Error = Box<dyn std::error::Error>;
    fn size(&self) -> BodySize {
        BodySize::Sized(self.end - self.at)
    }
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<std::result::Result<Bytes, Self::Error>>> {
        if self.app.tls.is_revoked(&self.device) {
            return Poll::Ready(Some(Err("revoked".into())));
        }
        if self.at == self.end {
            return Poll::Ready(None);
        }
        let (content, at, size) = (Arc::clone(&self.content), self.at, READ.min(self.end - self.at));
        let reading = self.reading.get_or_insert_with(|| {
            tokio::task::spawn_blocking(move || {
                let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
                content.read_exact_at(&mut bytes, at)?;
                Ok(bytes)
            })
        });
        let bytes = match Pin::new(reading).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(Ok(bytes))) => bytes,
            Poll::Ready(Ok(Err(e))) => return Poll::Ready(Some(Err(e.into()))),
            Poll::Ready(Err(e)) => return Poll::Ready(Some(Err(e.into()))),
        };
        self.reading = None;
        self.at += bytes.len() as u64;
        Poll::Ready(Some(Ok(bytes.into())))
    }
}
