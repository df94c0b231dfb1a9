//! Build workers: their administration under `/api/v1`, and the API that they use under
//! `/worker/v1`.

use crate::access::By;
use crate::error::AppError;
use crate::http::extract::{self, BodyMax, Json, Octets};
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Bytes, Data, Path, Query, ReqData, ServiceConfig};
use actix_web::{HttpMessage, HttpResponse, Responder, delete, get, post};
use fleeti_control::builds::jobs;
use fleeti_control::builds::jobs::Piece;
use fleeti_control::builds::workers;
use fleeti_control::context::Context;
use fleeti_control::suites::upload::{self, Part};
use fleeti_core::id::WorkerName;
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::worker::{
    CHUNK_MAX, Claim, CreateWorker, CreatedWorker, Finish, Renew, Worker,
};
use serde::Deserialize;

type Result<T> = std::result::Result<T, AppError>;

/// Maximum size of a JSON body in bytes: a build record, with its quotes escaped.
const JSON_MAX: usize = 4 << 20;

/// List build workers.
#[utoipa::path(tag = "workers", responses((status = 200, description = "Workers, ordered by name", body = Vec<Worker>)))]
#[get("/workers")]
pub async fn list_workers(cx: Data<Context>) -> Result<impl Responder> {
    Ok(Json(workers::list(&cx).await?))
}

/// Add a build worker. Only this response contains its token.
#[utoipa::path(tag = "workers", responses((status = 201, description = "The token of the worker", body = CreatedWorker)))]
#[post("/workers")]
pub async fn add_worker(
    cx: Data<Context>,
    by: By,
    body: Json<CreateWorker>,
) -> Result<impl Responder> {
    let created = workers::add(&cx, &by, &body).await?;
    Ok(HttpResponse::Created().insert_header(("cache-control", "no-store")).json(created))
}

/// Remove a build worker. Its token is no longer valid.
#[utoipa::path(tag = "workers", responses((status = 200, description = "The remaining workers", body = Vec<Worker>)))]
#[delete("/workers/{worker}")]
pub async fn remove_worker(
    cx: Data<Context>,
    by: By,
    worker: Path<WorkerName>,
) -> Result<impl Responder> {
    workers::remove(&cx, &by, &worker).await?;
    Ok(Json(workers::list(&cx).await?))
}

/// The routes of workers. The token of a worker gives access to these only, and no other token
/// does.
pub fn routes(config: &mut ServiceConfig) {
    config.service(
        web::scope("/worker/v1")
            .app_data(BodyMax(JSON_MAX))
            .app_data(extract::paths())
            .app_data(extract::queries())
            .service(claim)
            .service(renew)
            .service(
                web::resource("/builds/{build}/log")
                    .app_data(BodyMax(CHUNK_MAX))
                    .route(web::put().to(append_log)),
            )
            .service(
                web::resource("/builds/{build}/files/{name}")
                    .app_data(BodyMax(CHUNK_MAX))
                    .route(web::put().to(put_file)),
            )
            .service(finish)
            .service(known_index)
            .service(
                web::resource("/suites/{suite}/{sha256}")
                    .app_data(BodyMax(CHUNK_MAX))
                    .route(web::put().to(put_index)),
            )
            .default_service(web::to(|| async {
                Err::<HttpResponse, _>(AppError::new(Code::NotFound, "path not found"))
            }))
            .wrap(from_fn(authenticate)),
    );
}

async fn authenticate(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> std::result::Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let cx = request
        .app_data::<Data<Context>>()
        .cloned()
        .ok_or_else(|| AppError::internal("a route without a server"))?;
    let given = request
        .headers()
        .get("authorization")
        .and_then(|h| h.to_str().ok()?.strip_prefix("Bearer "));
    let worker = workers::authenticate(&cx, given).await.map_err(AppError::from)?;
    request.extensions_mut().insert(worker);
    next.call(request).await
}

#[post("/claim")]
async fn claim(
    cx: Data<Context>,
    worker: ReqData<WorkerName>,
    body: Json<Claim>,
) -> Result<impl Responder> {
    let job = jobs::claim(&cx, &worker, &body).await?;
    Ok(job.map_or_else(|| HttpResponse::NoContent().finish(), |job| HttpResponse::Ok().json(job)))
}

#[post("/builds/{build}/renew")]
async fn renew(
    cx: Data<Context>,
    worker: ReqData<WorkerName>,
    id: Path<String>,
    body: Json<Renew>,
) -> Result<impl Responder> {
    jobs::renew(&cx, &worker, &id, &body).await?;
    Ok(HttpResponse::NoContent())
}

/// The lease, and the offset at which a chunk belongs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    lease: String,
    offset: u64,
}

impl At {
    fn piece(self, bytes: Bytes) -> Piece {
        Piece { lease: self.lease, offset: self.offset, bytes }
    }
}

async fn append_log(
    cx: Data<Context>,
    worker: ReqData<WorkerName>,
    id: Path<String>,
    at: Query<At>,
    body: Octets,
) -> Result<impl Responder> {
    jobs::append_log(&cx, &worker, &id, at.into_inner().piece(body.0)).await?;
    Ok(HttpResponse::NoContent())
}

async fn put_file(
    cx: Data<Context>,
    worker: ReqData<WorkerName>,
    path: Path<(String, String)>,
    at: Query<At>,
    body: Octets,
) -> Result<impl Responder> {
    jobs::put(&cx, &worker, &path.0, &path.1, at.into_inner().piece(body.0)).await?;
    Ok(HttpResponse::NoContent())
}

#[post("/builds/{build}/finish")]
async fn finish(
    cx: Data<Context>,
    worker: ReqData<WorkerName>,
    id: Path<String>,
    body: Json<Finish>,
) -> Result<impl Responder> {
    jobs::finish(&cx, &worker, &id, &body).await?;
    Ok(HttpResponse::NoContent())
}

/// The index that the server has of a suite.
#[get("/suites/{suite}")]
async fn known_index(cx: Data<Context>, suite: Path<String>) -> Result<impl Responder> {
    Ok(Json(upload::known(&cx, &suite).await?))
}

/// Size of the whole, and the offset at which a part belongs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PartAt {
    size: u64,
    offset: u64,
}

async fn put_index(
    cx: Data<Context>,
    worker: ReqData<WorkerName>,
    path: Path<(String, String)>,
    at: Query<PartAt>,
    body: Octets,
) -> Result<impl Responder> {
    let (suite, digest) = path.into_inner();
    let part = Part { digest, size: at.size, offset: at.offset, bytes: body.0 };
    upload::put(&cx, &worker, &suite, part).await?;
    Ok(HttpResponse::NoContent())
}
