//! Static files, embedded in the binary. The URL contains a hash of the content, so that browsers
//! cache them forever.

use actix_web::web::Path;
use actix_web::{HttpResponse, http::header};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    hash: String,
}

macro_rules! asset {
    ($name:literal, $kind:literal) => {{
        let bytes = include_bytes!(concat!("../../static/", $name));
        Asset { name: $name, kind: $kind, bytes, hash: hex::encode(&Sha256::digest(bytes)[..8]) }
    }};
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    vec![
        asset!("fleeti.css", "text/css; charset=utf-8"),
        asset!("fleeti.js", "text/javascript; charset=utf-8"),
        asset!("editor.js", "text/javascript; charset=utf-8"),
        asset!("search.js", "text/javascript; charset=utf-8"),
        asset!("passkeys.js", "text/javascript; charset=utf-8"),
        asset!("keys.js", "text/javascript; charset=utf-8"),
        asset!("fleeti.svg", "image/svg+xml"),
        asset!("external/htmx-4.0.1.min.js", "text/javascript; charset=utf-8"),
        asset!("external/hx-sse-4.0.1.min.js", "text/javascript; charset=utf-8"),
    ]
});

/// URL path of a file, or an empty string for an unknown name.
#[must_use]
pub fn url(name: &str) -> String {
    ASSETS
        .iter()
        .find(|a| a.name == name)
        .map_or_else(String::new, |a| format!("/static/{}/{}", a.hash, a.name))
}

/// Serves a file by hash and name.
pub async fn serve(path: Path<String>) -> HttpResponse {
    match ASSETS.iter().find(|a| {
        path.strip_prefix(a.hash.as_str()).and_then(|p| p.strip_prefix('/')) == Some(a.name)
    }) {
        Some(a) => HttpResponse::Ok()
            .content_type(a.kind)
            .insert_header((header::CACHE_CONTROL, "public, max-age=31536000, immutable"))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .body(a.bytes),
        None => HttpResponse::NotFound().finish(),
    }
}
