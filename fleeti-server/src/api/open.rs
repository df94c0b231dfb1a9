//! The public paths on the API port, which need no token.

use super::openapi;
use crate::access::OPEN;
use crate::error::AppError;
use crate::http::methods::head_as_get;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Responder, Route};
use fleeti_control::context::Context;
use fleeti_control::{metrics, overview, trust};
use utoipa::OpenApi;

type Result<T> = std::result::Result<T, AppError>;

/// These routes, for the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(livez, healthz, readyz, metrics, crl, document))]
pub struct Documented;

/// The one list of these routes. Register it before the API, whose scope contains one of them.
pub fn routes(config: &mut ServiceConfig) {
    let mut serve = |path: &str, route: Route| {
        config.service(
            web::resource(path)
                .route(route)
                .default_service(web::to(nothing_here))
                .wrap(from_fn(head_as_get)),
        );
    };
    let [live, health, ready, figures, crls, openapi] = OPEN;
    serve(live, web::get().to(livez));
    serve(health, web::get().to(healthz));
    serve(ready, web::get().to(readyz));
    serve(figures, web::get().to(metrics));
    serve(crls, web::get().to(crl));
    serve(openapi, web::get().to(document));
}

async fn nothing_here(request: HttpRequest) -> Result<HttpResponse> {
    Err(openapi::METHODS.refuse(&request))
}

/// Check that the server process runs.
#[utoipa::path(get, path = "/livez", tag = "server", security(()), responses((status = 200, description = "The server runs", body = String, content_type = "text/plain")))]
async fn livez() -> &'static str {
    "ok\n"
}

/// Check that the server can serve devices.
#[utoipa::path(get, path = "/healthz", tag = "server", security(()), responses((status = 200, description = "The server can serve devices", body = String, content_type = "text/plain")))]
async fn healthz(cx: Data<Context>) -> Result<&'static str> {
    overview::healthy(&cx).await?;
    Ok("ok\n")
}

/// Check that the server is ready; the error names everything that is missing.
#[utoipa::path(get, path = "/readyz", tag = "server", security(()), responses((status = 200, description = "The server is ready", body = String, content_type = "text/plain")))]
async fn readyz(cx: Data<Context>) -> Result<&'static str> {
    overview::ready(&cx).await?;
    Ok("ok\n")
}

/// Get figures about the server, in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "server", security(()), responses((status = 200, description = "Figures", body = String, content_type = "text/plain")))]
async fn metrics(cx: Data<Context>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(metrics::text(&cx).await?))
}

/// Get the CRL of an intermediate CA for devices, DER (RFC 5280). The path contains the id of its
/// key, as in the distribution point of each certificate.
#[utoipa::path(
    get,
    path = "/pki/{issuer}.crl",
    tag = "server",
    security(()),
    responses((status = 200, description = "The CRL", body = Vec<u8>, content_type = "application/pkix-crl"))
)]
pub(crate) async fn crl(cx: Data<Context>, issuer: Path<String>) -> Result<impl Responder> {
    let list =
        trust::crl(&cx, &issuer).ok_or_else(|| AppError::not_found("CRL of issuer", &issuer))?;
    Ok(HttpResponse::Ok().content_type("application/pkix-crl").body(list))
}

/// Get this document. It contains no secrets.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "server", security(()), responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")))]
async fn document() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(openapi::text())
}
