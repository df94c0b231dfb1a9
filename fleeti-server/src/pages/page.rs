//! What all pages share.

use crate::access::{self, By};
use crate::error::AppError;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, ContentType};
use actix_web::{FromRequest, HttpRequest, HttpResponse, ResponseError, dev::Payload};
use askama::Template;
use fleeti_core::wire::problem::Code;

/// What the layout needs to know of a page.
pub struct Page {
    /// Path of its section in the navigation.
    pub section: &'static str,
    /// Path and query from which the page refreshes itself.
    pub path: String,
    /// htmx triggers: the events on which the page refreshes itself.
    pub triggers: String,
    /// Who looks at it; `None` without a session.
    by: Option<By>,
}

/// A message and a hint.
pub struct Notice {
    /// The problem.
    pub message: String,
    /// How to fix it.
    pub hint: Option<String>,
}

impl Page {
    /// A page that refreshes itself when one of these events arrives.
    pub fn new(section: &'static str, request: &HttpRequest, events: &[&str]) -> Self {
        let path =
            request.uri().path_and_query().map_or_else(|| section.to_owned(), ToString::to_string);
        // The script dispatches `again` after a failed request.
        let names = events.iter().chain(events.first().map(|_| &"again"));
        let triggers =
            names.map(|e| format!("{e} from:body throttle:700ms")).collect::<Vec<_>>().join(", ");
        let by = By::from_request(request, &mut Payload::None).into_inner().ok();
        Self { section, path, triggers, by }
    }

    /// Whether the caller may open this page.
    pub fn opens(&self, path: &str) -> bool {
        self.by.as_ref().is_none_or(|by| access::may_open(by, path))
    }

    /// Whether the caller may send this form, of no fleet: the pattern of its route. What a page does
    /// not offer is refused all the same.
    pub fn may(&self, form: &str) -> bool {
        self.by.as_ref().is_some_and(|by| access::may_send(by, form, None))
    }

    /// As [`Self::may`], for a form about a fleet, or about a device or rollout of it.
    pub fn may_in(&self, form: &str, fleet: &str) -> bool {
        self.by.as_ref().is_some_and(|by| access::may_send(by, form, Some(fleet)))
    }

    /// A page without a caller.
    pub fn plain() -> Self {
        Self { section: "", path: String::new(), triggers: String::new(), by: None }
    }
}

/// An HTML response.
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

/// Whether the request comes from htmx, which needs only `main` and not the layout.
pub fn wants_fragment(request: &HttpRequest) -> bool {
    request.headers().contains_key("hx-request")
}

/// Renders the page, or only its block `main` for htmx.
macro_rules! show {
    ($request:expr, $page:expr) => {{
        let page = $page;
        let body = if $crate::pages::page::wants_fragment(&$request) {
            askama::Template::render(&page.as_main())
        } else {
            askama::Template::render(&page)
        };
        Ok($crate::pages::page::html(actix_web::http::StatusCode::OK, body))
    }};
}
pub(super) use show;

/// Redirects to another page after a change (303).
pub fn see(path: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((header::LOCATION, path)).finish()
}

/// An error that is rendered as a page.
#[derive(Debug)]
pub struct Refused(pub AppError);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<E> From<E> for Refused
where
    AppError: From<E>,
{
    fn from(e: E) -> Self {
        Self(e.into())
    }
}

/// The result of a page's handler.
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
        let problem = Problem {
            page: Page::plain(),
            title: self.0.to_string(),
            hint: self.0.error().what_to_do().map(str::to_owned),
        };
        match problem.render() {
            Ok(body) => HttpResponse::build(self.status_code())
                .insert_header(ContentType::html())
                .body(body),
            Err(_) => HttpResponse::InternalServerError().finish(),
        }
    }
}

/// The error for a form or query that does not parse.
pub fn refused(e: impl std::fmt::Display) -> Refused {
    Refused(AppError::new(Code::Invalid, e.to_string()))
}

/// The error for a path that does not exist.
pub fn missing() -> Refused {
    Refused(AppError::new(Code::NotFound, "page not found"))
}

/// Handles every other path.
pub async fn nothing_here() -> Result<HttpResponse> {
    Err(missing())
}
