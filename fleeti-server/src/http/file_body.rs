//! A file on its way to a device: read in small pieces, and broken off when its device is revoked or its key replaced.

use crate::app::AppRef;
use actix_files::NamedFile;
use actix_web::body::{BodySize, BoxBody, MessageBody, SizedStream};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use fleeti_core::id::DeviceId;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::task::JoinHandle;

/// The answer to a request for a file. Its headers are those of `actix-files`: ETag, Range, conditions.
///
/// # Errors
/// I/O.
pub fn respond(
    app: &AppRef,
    (device, key_sha256): (DeviceId, String),
    file: NamedFile,
    request: &HttpRequest,
) -> std::io::Result<HttpResponse> {
    let content = Arc::new(file.file().try_clone()?);
    let response = file.use_last_modified(false).disable_content_disposition().into_response(request);
    let app = Arc::clone(app);
    let is_head = request.method() == Method::HEAD;
    Ok(response.map_body(|head, body| match body.size() {
        // Only its size: a body that is not sent is read all the same.
        BodySize::Sized(size) if is_head => BoxBody::new(SizedStream::new(size, futures::stream::empty::<std::io::Result<Bytes>>())),
        BodySize::Sized(size) if size > 0 => {
            let at = first_byte(head.headers().get(header::CONTENT_RANGE));
            BoxBody::new(FileBody { app, device, key_sha256, content, at, end: at + size, reading: None })
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
    key_sha256: String,
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
        if self.app.tls.is_revoked(&self.device) || self.app.tls.is_replaced(&self.key_sha256) {
            return Poll::Ready(Some(Err("revoked, or its key was replaced".into())));
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
