//! Sends a small file as a whole, in pieces.

use actix_web::HttpResponse;
use std::path::Path;
use tokio_util::io::ReaderStream;

/// Answers with a file.
///
/// # Errors
/// If the file cannot be opened.
pub async fn respond(path: &Path) -> std::io::Result<HttpResponse> {
    let file = tokio::fs::File::open(path).await?;
    let size = file.metadata().await?.len();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(HttpResponse::Ok()
        .content_type("application/octet-stream")
        .insert_header(("content-disposition", format!("attachment; filename=\"{name}\"")))
        .no_chunking(size)
        .streaming(ReaderStream::new(file)))
}
