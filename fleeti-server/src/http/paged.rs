//! Pages of lists as responses: the items as JSON, the address of the next page in `Link` (RFC 8288).

use super::extract::Json;
use actix_web::body::BoxBody;
use actix_web::http::header::{HeaderValue, LINK};
use actix_web::{HttpRequest, HttpResponse, Responder};
use fleeti_control::cursor::Page;
use serde::Serialize;

/// A page, and the query without its cursor.
pub struct Paged<T> {
    page: Page<T>,
    query: String,
}

impl<T: Serialize> Paged<T> {
    /// A page of a list. `filter` are the values of its query that the next page has as well.
    pub fn of(page: Page<T>, filter: &[(&str, Option<String>)]) -> Self {
        let set = filter.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        // Names and values are ids and numbers, which need no encoding.
        let query = set.map(|(name, value)| format!("&{name}={value}")).collect();
        Self { page, query }
    }
}

impl<T: Serialize> Responder for Paged<T> {
    type Body = BoxBody;
    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        let Page { items, next } = self.page;
        let mut response = Json(items).respond_to(request);
        let link = next.and_then(|cursor| {
            let link = format!("<{}?cursor={cursor}{}>; rel=\"next\"", request.path(), self.query);
            HeaderValue::from_str(&link).ok()
        });
        if let Some(link) = link {
            response.headers_mut().insert(LINK, link);
        }
        response
    }
}
