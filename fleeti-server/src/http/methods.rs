//! The methods of each path: HEAD wherever there is GET, and 405 with `Allow` for all others (RFC
//! 9110, 9.3.2 and 15.5.6).

use crate::error::AppError;
use actix_web::HttpRequest;
use actix_web::body::{BodySize, BoxBody, MessageBody, None as NoBody, SizedStream};
use actix_web::dev::{ResourceDef, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{ALLOW, HeaderValue, RANGE};
use actix_web::middleware::Next;
use actix_web::web::Bytes;
use fleeti_core::foreign::Foreign;
use fleeti_core::wire::problem::Code;

/// The methods of each path.
pub struct Methods(Vec<(ResourceDef, Vec<Method>)>);

impl Methods {
    /// Takes route patterns with the methods of each.
    pub fn new(routes: impl IntoIterator<Item = (String, Vec<Method>)>) -> Self {
        Self(
            routes
                .into_iter()
                .map(|(pattern, methods)| (ResourceDef::new(pattern), methods))
                .collect(),
        )
    }

    /// The error for a request that no route matches: 404, or 405 with `Allow`.
    #[must_use]
    pub fn refuse(&self, request: &HttpRequest) -> AppError {
        let matching = self.0.iter().filter(|(pattern, _)| pattern.is_match(request.path()));
        let mut allowed: Vec<&str> =
            matching.flat_map(|(_, methods)| methods.iter().map(Method::as_str)).collect();
        if allowed.is_empty() {
            return AppError::new(Code::NotFound, "path not found");
        }
        if allowed.contains(&"GET") {
            allowed.push("HEAD");
        }
        allowed.sort_unstable();
        allowed.dedup();
        let list = allowed.join(", ");
        let detail = format!(
            "method {} is not allowed on this path: allowed are {list}",
            Foreign::new(request.method().as_str(), 20)
        );
        let allow = HeaderValue::from_str(&list).unwrap_or(HeaderValue::from_static(""));
        AppError::new(Code::MethodNotAllowed, detail).header(ALLOW, allow)
    }
}

/// Answers HEAD like GET, without the body. Discarding it here matters: an endless body would block
/// the connection.
///
/// # Errors
/// Passes on the error of the inner service.
pub async fn head_as_get(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    if request.method() != Method::HEAD {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    request.head_mut().method = Method::GET;
    // `Range` is defined for GET only (RFC 9110, 14.2).
    request.headers_mut().remove(RANGE);
    Ok(next.call(request).await?.map_body(|_, body| without_content(body.size())))
}

fn without_content(size: BodySize) -> BoxBody {
    let nothing = || futures::stream::empty::<std::io::Result<Bytes>>();
    match size {
        BodySize::Sized(size) if size > 0 => BoxBody::new(SizedStream::new(size, nothing())),
        BodySize::Sized(_) => BoxBody::new(()),
        BodySize::None | BodySize::Stream => BoxBody::new(NoBody::new()),
    }
}
