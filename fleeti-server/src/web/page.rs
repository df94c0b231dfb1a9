//! What all pages share.

use crate::error::AppError;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, ContentType};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use askama::Template;
use fleeti_core::wire::problem::Code;

/// What a page is, for its frame.
pub struct Page {
    /// Path of its section in the navigation.
    pub section: &'static str,
    /// Where it is looked at again.
    pub path: String,
    /// Which events make it look again.
    pub triggers: String,
}

/// A message and what to do.
pub struct Notice {
    /// What is the matter.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Page {
    /// A page that looks again when one of these things changes.
    pub fn new(section: &'static str, request: &HttpRequest, events: &[&str]) -> Self {
        let path =
            request.uri().path_and_query().map_or_else(|| section.to_owned(), ToString::to_string);
        // And when its script says that something was missed.
        let names = events.iter().chain(events.first().map(|_| &"again"));
        let triggers =
            names.map(|e| format!("{e} from:body throttle:700ms")).collect::<Vec<_>>().join(", ");
        Self { section, path, triggers }
    }
}

/// An answer in HTML.
pub fn html(status: StatusCode, body: askama::Result<String>) -> HttpResponse {
    match body {
        Ok(body) => HttpResponse::build(status)
            .insert_header(ContentType::html())
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .insert_header((header::VARY, "HX-Request"))
            .body(body),
        Err(e) => Refused(AppError::internal(e)).error_response(),
    }
}

/// Whether htmx asks, which has the frame already.
pub fn wants_fragment(request: &HttpRequest) -> bool {
    request.headers().contains_key("hx-request")
}

/// The page, or its middle where htmx asks.
macro_rules! show {
    ($request:expr, $page:expr) => {{
        let page = $page;
        let body = if $crate::web::page::wants_fragment(&$request) {
            page.as_main().render()
        } else {
            page.render()
        };
        Ok($crate::web::page::html(actix_web::http::StatusCode::OK, body))
    }};
}
pub(super) use show;

/// Goes on to another page, once something was done.
pub fn see(path: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((header::LOCATION, path)).finish()
}

/// A refusal as a page.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Refused(#[from] pub AppError);

/// What a page gives.
pub type Result<T> = std::result::Result<T, Refused>;

#[derive(Template)]
#[template(path = "problem.html")]
struct Problem {
    page: Page,
    title: String,
    hint: Option<String>,
}

impl ResponseError for Refused {
    fn status_code(&self) -> StatusCode {
        self.0.status_code()
    }
    fn error_response(&self) -> HttpResponse {
        let page = Page { section: "", path: String::new(), triggers: String::new() };
        let problem = Problem {
            page,
            title: self.0.to_string(),
            hint: self.0.what_to_do().map(str::to_owned),
        };
        match problem.render() {
            Ok(body) => HttpResponse::build(self.status_code())
                .insert_header(ContentType::html())
                .body(body),
            Err(_) => HttpResponse::InternalServerError().finish(),
        }
    }
}

/// A form or query that cannot be read.
pub fn refused(e: impl std::fmt::Display) -> Refused {
    Refused(AppError::new(Code::Invalid, e.to_string()))
}

/// A path that names nothing.
pub fn missing() -> Refused {
    Refused(AppError::new(Code::NotFound, "there is nothing here"))
}

/// Anything else.
pub async fn nothing_here() -> Result<HttpResponse> {
    Err(missing())
}
