//! The device API: TLS with an optional client certificate. Enrollment (`/enroll`, `/pair`), the
//! renewals by proof or readmission, transitions and CRLs need no certificate. A device can fetch
//! only the release that it was offered.

use super::extract::{self, BodyMax, Json, Octets};
use super::file_body::{self, Receiver};
use super::methods::{Methods, head_as_get};
use super::release_path::ReleasePath;
use crate::api::open;
use crate::error::AppError;
use crate::gateway::doors::Peer;
use crate::limits::Limits;
use crate::port::connection::Connection;
use actix_files::NamedFile;
use actix_web::body::MessageBody;
use actix_web::dev::Extensions;
use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, Path, Query, ServiceConfig};
use actix_web::{FromRequest, HttpRequest, HttpResponse, Resource, Responder, Route, dev};
use fleeti_control::attestation::{challenge, tpm};
use fleeti_control::context::Context;
use fleeti_control::enrollment;
use fleeti_control::enrollment::token::Channel;
use fleeti_control::enrollment::{batch, pairing, readmission, token};
use fleeti_control::places::Origin;
use fleeti_control::trust::transitions;
use fleeti_control::{audit, boot, commands, devices, releases, secrets, trust};
use fleeti_core::id::{DeviceId, ReleaseName};
use fleeti_core::wire::attestation::{TpmEnrollRequest, TpmIdentity, TpmProof};
use fleeti_core::wire::command::RESULT_MAX;
use fleeti_core::wire::device::LogConsistency;
use fleeti_core::wire::enrollment::{
    EnrollRequest, PairRequest, PairWait, ProvedRenewRequest, RenewRequest,
};
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::readmission::ReadmitRequest;
use fleeti_core::wire::vault::{FetchSecrets, RecoveryKey};
use fleeti_pki::attestation::key::{CHANNEL_BYTES, CHANNEL_LABEL};
use fleeti_pki::measured::log::BYTES_MAX as LOG_MAX;
use rustls::ProtocolVersion;
use serde::Deserialize;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, AppError>;

/// Maximum size of a JSON body in bytes.
const JSON_MAX: usize = 64 * 1024;

/// Where the files of releases are. [`release_file`] reads the rest of their paths.
const RELEASES: &str = "/releases";

/// The one list of routes. HEAD is answered wherever GET is.
pub fn routes(config: &mut ServiceConfig) {
    let (get, post, put) = (Method::GET, Method::POST, Method::PUT);
    config
        .app_data(BodyMax(JSON_MAX))
        .app_data(extract::paths())
        .app_data(extract::queries())
        .service(
            web::scope("")
                .service(at("/enroll", &post, web::to(enroll)))
                .service(at("/enroll/tpm", &post, web::to(enroll_tpm)))
                .service(at("/renew", &post, web::to(renew)))
                .service(at("/renew/proved", &post, web::to(renew_by_proof)))
                .service(at("/renew/readmitted", &post, web::to(renew_readmitted)))
                .service(at("/tpm", &post, web::to(show_tpm)))
                .service(at("/tpm/proved", &post, web::to(tpm_proved)))
                .service(at("/pair", &post, web::to(pair)))
                .service(at("/pair/wait", &post, web::to(pair_wait)))
                .service(at("/recovery-key", &put, web::to(recovery_key)))
                .service(at("/secrets", &post, web::to(secrets)))
                .service(at("/desired", &get, web::to(desired)))
                .service(at("/trust-bundle.json", &get, web::to(trust_bundle)))
                .service(at("/transitions.json", &get, web::to(transition_list)))
                .service(at("/log/consistency.json", &get, web::to(log_consistency)))
                .service(at("/boot/change.json", &get, web::to(boot_change)))
                .service(web::scope(RELEASES).default_service(web::to(release_file)))
                .service(at("/logs/{sha256}", &put, web::to(log)).app_data(BodyMax(LOG_MAX)))
                .service(
                    at("/commands/{command}/result", &put, web::to(command_result))
                        .app_data(BodyMax(RESULT_MAX)),
                )
                .service(at("/pki/{issuer}.crl", &get, web::to(open::crl)))
                .default_service(web::to(nothing_here))
                .wrap(from_fn(head_as_get)),
        );
}

/// A path with a single method.
fn at(path: &str, method: &Method, route: Route) -> Resource {
    let methods = Arc::new(Methods::new([(path.to_owned(), vec![method.clone()])]));
    let refuse = move |request: HttpRequest| {
        let refused = methods.refuse(&request);
        async move { Err::<HttpResponse, _>(refused) }
    };
    web::resource(path).route(route.method(method.clone())).default_service(web::to(refuse))
}

async fn nothing_here() -> Result<HttpResponse> {
    Err(AppError::new(Code::NotFound, "path not found"))
}

/// The certificate that TLS verified for a connection, and the cached state of its device.
struct PeerCertificate {
    device: DeviceId,
    key_sha256: String,
    known: Mutex<Option<Known>>,
}

/// Cached state of a device. It is valid until any offer changes, and for a limited time, because
/// evidence expires.
#[derive(Clone)]
struct Known {
    epoch: u64,
    until: Instant,
    offered: Option<ReleaseName>,
}

/// The channel binding of a connection (RFC 9266).
struct Bound([u8; CHANNEL_BYTES]);

/// Stores the verified certificate and the channel binding, once for each connection.
pub fn on_connect(connection: &Connection, extensions: &mut Extensions) {
    extensions.insert(Rc::clone(&connection.activity));
    let Some(tls) = connection.tls() else { return };
    // Before TLS 1.3 two connections can have the same exporter value (RFC 9266, 3).
    if tls.protocol_version() == Some(ProtocolVersion::TLSv1_3)
        && let Ok(channel) = tls.export_keying_material([0; CHANNEL_BYTES], CHANNEL_LABEL, None)
    {
        extensions.insert(Bound(channel));
    }
    if let Some(Peer { device, key_sha256, .. }) = connection.peer.clone() {
        extensions.insert(Arc::new(PeerCertificate {
            device,
            key_sha256,
            known: Mutex::default(),
        }));
    }
}

/// A device that the database knows, that is not revoked, and that uses its current key. Only the
/// extractor below makes one.
pub struct AuthenticatedDevice {
    id: DeviceId,
    key_sha256: String,
    offered: Option<ReleaseName>,
}

impl FromRequest for AuthenticatedDevice {
    type Error = AppError;
    type Future = Pin<Box<dyn Future<Output = Result<Self>>>>;
    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let peer = request.conn_data::<Arc<PeerCertificate>>().cloned();
        let cx = request.app_data::<Data<Context>>().cloned();
        let limits = request.app_data::<Data<Limits>>().map_or_else(Limits::default, |l| ***l);
        Box::pin(async move {
            let (Some(peer), Some(cx)) = (peer, cx) else {
                return Err(AppError::new(
                    Code::Unauthenticated,
                    "a device certificate is required",
                ));
            };
            let id = peer.device.clone();
            if cx.access.is_revoked(&id) {
                return Err(AppError::new(Code::Forbidden, "this device is revoked").and_close());
            }
            let key_sha256 = peer.key_sha256.clone();
            // Read the epoch first: a change during the query then makes the cached result stale.
            let epoch = cx.grants.epoch();
            let known = peer.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(known) = known.filter(|k| k.epoch == epoch && Instant::now() < k.until) {
                return Ok(Self { id, key_sha256, offered: known.offered });
            }
            let offered = devices::offered(&cx, &id, &peer.key_sha256).await?;
            *peer.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(Known {
                epoch,
                until: Instant::now() + Duration::from_millis(limits.known_ms),
                offered: offered.clone(),
            });
            Ok(Self { id, key_sha256, offered })
        })
    }
}

/// The channel binding of the request's connection.
fn channel(request: &HttpRequest) -> Channel {
    request.conn_data::<Bound>().map(|b| b.0)
}

/// The address of the request's connection.
fn origin(request: &HttpRequest) -> Result<Origin> {
    request
        .peer_addr()
        .map(|address| Origin::from(address.ip()))
        .ok_or_else(|| AppError::internal("a connection without an address"))
}

async fn enroll(
    request: HttpRequest,
    cx: Data<Context>,
    body: Json<EnrollRequest>,
) -> Result<impl Responder> {
    Ok(Json(batch::enroll(&cx, &body, channel(&request)).await?))
}

/// A device with an enrollment token presents its TPM.
async fn enroll_tpm(cx: Data<Context>, body: Json<TpmEnrollRequest>) -> Result<impl Responder> {
    Ok(Json(enrollment::tpm::begin_enrollment(&cx, &body).await?))
}

async fn renew(
    request: HttpRequest,
    cx: Data<Context>,
    device: AuthenticatedDevice,
    body: Json<RenewRequest>,
) -> Result<impl Responder> {
    Ok(Json(token::renew(&cx, &device.id, &body, channel(&request)).await?))
}

/// Needs no client certificate: the old one has expired, and the TPM proves the device's identity.
async fn renew_by_proof(
    request: HttpRequest,
    cx: Data<Context>,
    body: Json<ProvedRenewRequest>,
) -> Result<impl Responder> {
    Ok(Json(token::renew_by_proof(&cx, &body, channel(&request)).await?))
}

/// Needs no client certificate: the old one has expired, and its key identifies the device while an
/// operator has opened readmission for its fleet.
async fn renew_readmitted(
    request: HttpRequest,
    cx: Data<Context>,
    body: Json<ReadmitRequest>,
) -> Result<impl Responder> {
    Ok(Json(readmission::renew(&cx, &body, channel(&request)).await?))
}

/// An enrolled device presents its TPM.
async fn show_tpm(
    cx: Data<Context>,
    device: AuthenticatedDevice,
    body: Json<TpmIdentity>,
) -> Result<impl Responder> {
    Ok(Json(tpm::begin(&cx, &device.id, &body).await?))
}

/// The secret that only this TPM can decrypt (credential activation).
async fn tpm_proved(
    cx: Data<Context>,
    device: AuthenticatedDevice,
    body: Json<TpmProof>,
) -> Result<impl Responder> {
    tpm::prove(&cx, &device.id, &body).await?;
    Ok(HttpResponse::NoContent())
}

/// A firmware event log, which the device uploads before the evidence that names it.
async fn log(
    cx: Data<Context>,
    device: AuthenticatedDevice,
    path: Path<String>,
    body: Octets,
) -> Result<impl Responder> {
    challenge::keep_log(&cx, &device.id, &path, &body.0).await?;
    Ok(HttpResponse::NoContent())
}

/// The result of a command, which the device uploads before it answers that it is done.
async fn command_result(
    cx: Data<Context>,
    device: AuthenticatedDevice,
    path: Path<String>,
    body: Octets,
) -> Result<impl Responder> {
    commands::keep_result(&cx, &device.id, &path, &body.0).await?;
    Ok(HttpResponse::NoContent())
}

async fn pair(
    request: HttpRequest,
    cx: Data<Context>,
    body: Json<PairRequest>,
) -> Result<impl Responder> {
    Ok(Json(pairing::begin(&cx, origin(&request)?, &body).await?))
}

async fn pair_wait(
    request: HttpRequest,
    cx: Data<Context>,
    body: Json<PairWait>,
) -> Result<impl Responder> {
    Ok(Json(pairing::wait(&cx, origin(&request)?, &body).await?))
}

/// The recovery key of the device's data partition.
async fn recovery_key(
    cx: Data<Context>,
    device: AuthenticatedDevice,
    body: Json<RecoveryKey>,
) -> Result<impl Responder> {
    secrets::keep_recovery_key(&cx, &device.id, &body).await?;
    Ok(HttpResponse::NoContent())
}

/// The secrets of the device's fleet, in exchange for a ticket from an attested session.
async fn secrets(
    cx: Data<Context>,
    device: AuthenticatedDevice,
    body: Json<FetchSecrets>,
) -> Result<impl Responder> {
    Ok(Json(secrets::give(&cx, &device.id, &body.ticket).await?))
}

async fn desired(cx: Data<Context>, device: AuthenticatedDevice) -> Result<impl Responder> {
    Ok(Json(devices::desired(&cx, &device.id).await?))
}

/// The trust bundle.
async fn trust_bundle(cx: Data<Context>, _: AuthenticatedDevice) -> Result<impl Responder> {
    Ok(Json(trust::newest(&cx).await?))
}

/// All transitions. Needs no certificate: a device that was away for years has no valid one, and
/// does not trust the server's.
async fn transition_list(cx: Data<Context>) -> Result<impl Responder> {
    Ok(Json(transitions::all(&cx).await?))
}

/// The consistency proof between two checkpoints of the audit log.
async fn log_consistency(
    cx: Data<Context>,
    _: AuthenticatedDevice,
    sizes: Query<Sizes>,
) -> Result<impl Responder> {
    Ok(Json(LogConsistency { hashes: audit::consistency(&cx, sizes.from, sizes.to).await?.hashes }))
}

/// The sizes of two checkpoints, in entries.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sizes {
    from: u64,
    to: u64,
}

/// A file of the release that the device was offered.
async fn release_file(
    request: HttpRequest,
    cx: Data<Context>,
    device: AuthenticatedDevice,
) -> Result<HttpResponse> {
    only_get(&request)?;
    let ReleasePath { release, file } = ReleasePath::of(&request)?;
    if device.offered.as_ref() != Some(&release) {
        let detail = format!("{release} was not offered to this device");
        return Err(AppError::new(Code::Forbidden, detail));
    }
    match file.as_str() {
        "manifest.json" => Ok(json(releases::documents(&cx, &release).await?.manifest.clone())),
        "signatures.json" => Ok(json(releases::documents(&cx, &release).await?.signatures.clone())),
        "boot.json" => boot_signatures(&request, &cx, &device, &release).await,
        "proof.json" => proof(&request, &cx, &release).await,
        file => artifact(&request, &cx, device, &release, file).await,
    }
}

/// The methods of files of releases. HEAD has become GET before.
static OF_RELEASES: LazyLock<Methods> =
    LazyLock::new(|| Methods::new([(format!("{RELEASES}/{{path:.*}}"), vec![Method::GET])]));

fn only_get(request: &HttpRequest) -> Result<()> {
    if request.method() == Method::GET {
        return Ok(());
    }
    Err(OF_RELEASES.refuse(request))
}

fn json(bytes: impl MessageBody + 'static) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(bytes)
}

/// The inclusion proof of the release in the audit log, and the consistency proof since the last
/// checkpoint that the device knows.
async fn proof(request: &HttpRequest, cx: &Context, release: &ReleaseName) -> Result<HttpResponse> {
    let seen = Query::<Seen>::from_query(request.query_string())
        .map_err(|e| extract::said("the query", &e))?;
    Ok(Json(releases::proof(cx, release, seen.size).await?).respond_to(request))
}

/// The signatures over the EFI binaries of the release, by this device's own keys.
async fn boot_signatures(
    request: &HttpRequest,
    cx: &Context,
    device: &AuthenticatedDevice,
    release: &ReleaseName,
) -> Result<HttpResponse> {
    Ok(Json(boot::signatures(cx, &device.id, release).await?).respond_to(request))
}

/// The newest change of this device's Secure Boot variables.
async fn boot_change(cx: Data<Context>, device: AuthenticatedDevice) -> Result<impl Responder> {
    Ok(Json(boot::last_change(&cx, &device.id).await?))
}

/// The last checkpoint that a device knows.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    /// Size of that checkpoint, in entries.
    #[serde(default)]
    size: u64,
}

/// Streams a file; supports `Range` and `ETag`.
async fn artifact(
    request: &HttpRequest,
    cx: &Data<Context>,
    device: AuthenticatedDevice,
    release: &ReleaseName,
    file: &str,
) -> Result<HttpResponse> {
    let file = NamedFile::open_async(releases::file(cx, release, file).await?).await?;
    let receiver = Receiver { device: device.id, key_sha256: device.key_sha256 };
    file_body::respond(cx, receiver, &file, request)
}
